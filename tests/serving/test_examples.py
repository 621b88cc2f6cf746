"""The deployment examples and the tutorial, run as their pages say, against a real server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.demo import load_digits

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "deploy_examples"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROTOBUF = re.compile(r"^```protobuf\n(.*?)^```", re.MULTILINE | re.DOTALL)
SERVE = re.compile(r"^ort-quant triton serve --dev (.*) &\n", re.MULTILINE)
CLIENT = re.compile(r"^python3 (\w+\.py)\b.*$", re.MULTILINE)

pytestmark = pytest.mark.slow


class Page:
    """Runs the blocks of a page in a folder; `address` maps the ports that the page names to the server's."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.address: dict[str, str] = {}

    def run(self, script: str, *, expect: int = 0) -> str:
        """Run a script as bash, its clients sent to the server; returns what it printed."""
        script = CLIENT.sub(self._with_url, re.sub(r"^kill %1$", "", script, flags=re.MULTILINE))
        for port, address in self.address.items():
            script = script.replace(f"localhost:{port}", address)
        done = subprocess.run(
            ["bash", "-euxc", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == expect, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run_blocks(self, page: Path, server) -> list[str]:
        """Run all blocks; `server(arguments)` starts the one that the page asks for."""
        printed = []
        for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            code = f"python3 -W error - <<'PYTHON'\n{block}PYTHON\n" if language == "python" else block
            before, *after = SERVE.split(code)
            printed.append(self.run(before))
            if after:
                server(after[0])
                printed.append(self.run(after[1]))
        return printed

    def _with_url(self, command: re.Match[str]) -> str:
        text = (self.folder / command[1]).read_text(encoding="utf-8")
        port = re.search(r'default="localhost:(\d+)"', text)
        return f"{command[0]} --url localhost:{port[1]}" if port else command[0]


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The environment of a reader: `python3` is this one, `ort-quant` is on the path.

    What `ort-quant demo` writes is made once and copied, since nearly every page begins with it.
    """
    folder = tmp_path_factory.mktemp("reader")
    run = f'exec "{sys.executable}"'
    demo = (
        f'if [ "$1" = demo ] && [ -d "{folder}/demo" ]; then mkdir -p "$3" && exec cp -r "{folder}/demo/." "$3"; fi\n'
    )
    for name, script in {"ort-quant": f'{demo}{run} -m ort_quant_plugin "$@"', "python3": f'{run} "$@"'}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    variables = dict(os.environ, PATH=f"{folder}{os.pathsep}{os.environ['PATH']}", PYTHONDONTWRITEBYTECODE="1")
    variables["PYTHONPATH"] = str(Path(find_spec("ort_quant_plugin").origin).parents[1])
    # In a folder of its own: `python -m` takes packages from the folder it starts in, which may be this repository.
    subprocess.run(["ort-quant", "demo", "--quiet", "--out", folder / "made"], env=variables, cwd=folder, check=True)
    (folder / "made").rename(folder / "demo")
    return variables


@pytest.fixture
def page(tmp_path, environment):
    """Make a :class:`Page` for a folder of the examples (a copy of it), or for an empty folder."""

    def _page(example: str | None = None) -> Page:
        if example is None:
            (tmp_path / "work").mkdir()
            return Page(tmp_path / "work", environment)
        shutil.copytree(EXAMPLES, tmp_path / "examples")
        return Page(tmp_path / "examples" / example, environment)

    return _page


@pytest.fixture
def start(triton_environment, tmp_path):
    """Start the server a page asks for; it ends with the test."""
    from ort_quant_plugin.triton.server import DevServer

    running = []

    def _start(page: Page, arguments: str):
        repository, *flags = shlex.split(arguments)
        assert set(flags) <= {"--explicit", "--log", "server.log"}
        server = DevServer(
            page.folder / repository,
            explicit="--explicit" in flags,
            # The configurations are complete; not to look for more halves the time to load a model.
            auto_complete=False,
            environment=triton_environment,
            log=tmp_path / "server.log",
        )
        running.append(server)
        server.start()
        page.address |= {"8000": server.http_url, "8001": server.grpc_url, "8002": server.metrics_url}
        return server

    yield _start
    for server in running:
        server.stop()


@contextmanager
def steady_requests(address: str, model: str, batch: np.ndarray):
    """Ask one thing over and over meanwhile; gives the list of answers, in the end all of them, and of failures."""
    import tritonclient.grpc as triton

    answers, failures, stop = [], [], threading.Event()

    tensor = triton.InferInput("image", batch.shape, "FP32")
    tensor.set_data_from_numpy(batch)

    def ask(client: triton.InferenceServerClient) -> None:
        try:
            answers.append(client.infer(model, [tensor]).as_numpy("logits"))
        except triton.InferenceServerException as error:
            failures.append(error)

    def keep_asking() -> None:
        with triton.InferenceServerClient(address) as client:
            while not stop.wait(0.01):
                ask(client)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        yield answers, failures
    finally:
        stop.set()
        thread.join(30)


def local_answer(model: Path, batch: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    session = ort.InferenceSession(str(model), oq.session_options(intra_op_num_threads=2))
    return session.run(None, {"image": batch})[0]


def test_tutorial(page, start):
    tutorial = page()
    printed = tutorial.run_blocks(
        REPOSITORY / "docs" / "tutorials" / "serve-on-triton.md", lambda arguments: start(tutorial, arguments)
    )
    assert any("shown" in text for text in printed)
    assert {path.name for path in (tutorial.folder / "repository" / "digits").rglob("*")} == {
        "config.pbtxt",
        "libort_quant_ops.so",
        "1",
        "model.onnx",
    }


def test_image_classification(page, start):
    example = page("image_classification")
    printed = example.run_blocks(example.folder / "README.md", lambda arguments: start(example, arguments))
    lines = printed[-1].splitlines()
    answers = [line for line in lines if re.match(r"\d\.png: ", line)]
    assert [line[: len("0.png: 0")] for line in answers] == [f"{digit}.png: {digit}" for digit in range(10)] * 2
    assert answers[:10] == answers[10:], "http and grpc differ"
    digits = load_digits()
    images = digits.evaluation[[int(np.argmax(digits.labels == digit)) for digit in range(10)]]
    powers = np.exp(local_answer(example.folder / "out/models/digits_ort_model.onnx", images).astype(np.float64))
    scores = (powers / powers.sum(1, keepdims=True)).max(1)
    assert [float(line.split("(")[1].rstrip(")")) for line in answers[:10]] == pytest.approx(scores, abs=6e-5), (
        "the served pre-processing gives the network what it was trained on"
    )
    assert lines[-1] == "int8 model and its simulation give the same bits"
    tags = [line.split()[1] for line in lines if line.startswith("digits")]
    assert tags == ["fp32", "fake_quant", "int8-ort", "int8-qdq"]
    (shown,) = PROTOBUF.findall((example.folder / "README.md").read_text(encoding="utf-8"))
    written = (example.folder / "out/repository/digits/config.pbtxt").read_text(encoding="utf-8")
    assert written.replace(f"{example.folder}/out/", "/") == shown, "the configuration in the README"


def test_image_classification_of_another_model(page, shared_model, photos, start):
    """EfficientNet-Lite0 on photos, where they are there."""
    example = page("image_classification")
    calibration, validation = photos("calibration")[:5], photos("validation")[:5]
    images = example.folder / "photos"
    images.mkdir()
    for path, _ in calibration:
        shutil.copy(path, images)
    (example.folder / "labels.txt").write_text("".join(f"class {index}\n" for index in range(1000)))
    model = shared_model("efficientnet_lite0.onnx")
    example.run(f"./make_repository.sh out net {model} photos labels.txt --mean 127 --std 128 --crop 224")
    start(example, "out/repository")
    asked = " ".join(str(path) for path, _ in validation)
    printed = example.run(f"python3 client_grpc.py {asked} --model net_ensemble\n")
    right = sum(f": class {label} " in line for line, (_, label) in zip(printed.splitlines(), validation, strict=True))
    assert right >= 3
    example.run(f"python3 compare_models.py {asked} --name net\n")


def test_ab_rollout(page, start):
    example = page("ab_rollout")
    batch = load_digits().evaluation[:1]
    printed = example.run_blocks(example.folder / "README.md", lambda arguments: start(example, arguments))
    models = example.folder / "out" / "models"
    tried = re.search(r"(\d+) of 450 requests tried with version 2: (\S+)% the same class", "".join(printed))
    assert 50 <= int(tried[1]) <= 130
    assert float(tried[2]) >= 98
    states = re.findall(r"digits version (\d): (\w+)", printed[-1])
    assert states[-2:] == [("1", "READY"), ("2", "UNAVAILABLE")], "rolled back"
    float_answer, int8_answer = (local_answer(models / f"digits_{f}.onnx", batch) for f in ("float", "ort_model"))
    assert not np.array_equal(float_answer, int8_answer)
    with steady_requests(example.address["8001"], "digits", batch) as (answers, failures):
        for versions in ("1 2", "2"):
            example.run(f"python3 rollout.py {versions} --repository out/repository\n")
    assert not failures
    assert np.array_equal(answers[-1], int8_answer), "version 2 in the end"
    assert all(np.array_equal(a, float_answer) or np.array_equal(a, int8_answer) for a in answers)
    assert "go back: rollout.py 1" in canary_of_a_wrong_version(example, models / "digits_float.onnx")


def test_calibrate_in_production(page, start):
    example = page("calibrate_in_production")
    printed = example.run_blocks(example.folder / "README.md", lambda arguments: start(example, arguments))
    out = example.folder / "out"
    assert any("450 requests answered" in text for text in printed)
    # The same data in one process, in one order, in one batch: the same record.
    example.run(
        "python3 make_repository.py here\n"
        "ort-quant calibrate here/calibration.onnx --data out/demo/digits_data.npy --batch-size 450\n"
    )
    assert (out / "record.txt").read_text() == (example.folder / "here" / "record.txt").read_text()
    data = load_digits()
    scores = local_answer(out / "int8" / "digits_ort_model.onnx", data.evaluation)
    assert (scores.argmax(1) == data.labels).mean() > 0.98


def canary_of_a_wrong_version(example: Page, model: Path) -> str:
    """What the canary says, with exit code 1, when the new version has other weights."""
    import onnx_ir as ir

    wrong = ir.load(model)
    weight = next(value for name, value in wrong.graph.initializers.items() if name.endswith("weight"))
    weight.const_value = ir.tensor(-weight.const_value.numpy(), name=weight.name)
    ir.save(wrong, example.folder / "wrong.onnx")
    example.run(f"./make_repository.sh out wrong {model} wrong.onnx")
    example.run("python3 rollout.py 1 2 --name wrong --repository out/repository\n")
    return example.run("python3 canary.py out/models/digits_data.npy --name wrong --share 0.2\n", expect=1)


@pytest.mark.parametrize("example", ["docker", "kubernetes"])
def test_repositories_for_images_are_written_and_valid(page, example):
    folder = page(example)
    folder.run_blocks(folder.folder / "README.md", server=None)


def test_probe(page, start, build, tmp_path):
    import onnx_ir as ir

    example = page("kubernetes")
    model = build('<ir_version: 8, opset_import: ["": 17]> g (float[n, 2] x) => (float[n, 2] y) { y = Div(x, x) }')
    ir.save(model, example.folder / "nan.onnx")
    example.run(
        "ort-quant demo --out models\n"
        "ort-quant triton new models/digits_ort_model.onnx --repository repository --name digits\n"
        "ort-quant triton new nan.onnx --repository repository --name nan --no-warmup\n"
        "ort-quant triton new models/digits_qdq_model.onnx --repository repository --name full"
        " --queue-delay 2000000 --max-queue 1\n"
    )
    server = start(example, "repository")

    def probe(model: str) -> subprocess.CompletedProcess[str]:
        script = example.folder / "chart" / "files" / "probe.py"
        command = [sys.executable, "-W", "error", script, model, "--url", f"http://{server.http_url}"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    healthy = probe("digits")
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert probe("nan").returncode == 1
    assert "not finite" in probe("nan").stderr
    assert probe("unknown").returncode == 1

    # One request waits for others to make a batch with and fills the queue; the next one is refused.
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(probe, ["full", "full"]))
    assert [done.returncode for done in both] == [0, 0], "busy is not dead"
    assert ["maximum queue size" in done.stderr for done in both].count(True) == 1

    # Metrics that the autoscaler's rule and the alert read are there.
    rules = (example.folder / "manifests" / "prometheusrule.yaml").read_text(encoding="utf-8")
    metrics = urlopen(f"http://{server.metrics_url}/metrics", timeout=10).read().decode()
    for name in re.findall(r"nv_\w+", rules):
        assert f"\n{name}{{" in metrics

    stubs = stub_processes(server.pid)
    assert len(stubs) == 3
    for process in stubs:
        os.kill(process, signal.SIGKILL)
    with urlopen(f"http://{server.http_url}/v2/health/ready", timeout=10) as answer:
        assert answer.status == 200, "what a plain readiness probe sees"
    dead = probe("digits")
    assert dead.returncode == 1
    assert "digits" in dead.stderr


def stub_processes(server: int) -> list[int]:
    """Processes that run the server's python-backend models."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = re.search(r"^PPid:\t(\d+)$", (folder / "status").read_text(), re.MULTILINE)[1]
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if parent == str(server) and b"triton_python_backend_stub" in command:
            found.append(int(folder.name))
    return found
