"""``ort-quant triton new`` and ``validate``."""

from __future__ import annotations

from pathlib import Path

import pytest

from ort_quant_plugin.cli.triton import SUBCOMMANDS
from ort_quant_plugin.triton.config import parse_config

OPS = "libort_quant_ops.so"


@pytest.fixture
def new(ort_quant, digits, tmp_path):
    """Run ``triton new`` on one form of the digits network."""

    def _new(form, *args, **kwargs):
        model = digits.model if form == "float" else digits.outputs[form]
        return ort_quant("triton", "new", model, "-r", tmp_path / "models", *args, **kwargs)

    return _new


def test_help_lists_the_subcommands_without_loading_them(ort_quant):
    out = ort_quant("triton", "--help").out
    for name, line in SUBCOMMANDS.items():
        assert name in out
        assert line[:40] in out
    assert "No such command" in ort_quant("triton", "old", code=2).err


def test_new_and_validate(new, ort_quant, tmp_path):
    result = new("ort", "--name", "net")
    assert "Model 'net', version 1: int8-ort, batches of up to 8" in result.out
    assert str(tmp_path / "models/net" / OPS) in result.out
    assert "ort-quant triton validate" in result.out
    checked = ort_quant("triton", "validate", tmp_path / "models")
    assert "PASSED: 1 model, 0 errors, 0 warnings" in checked.out


def test_new_json(new, tmp_path):
    document = new("fake_quant", "--json").document
    assert document["schema"] == "ort-quant/triton-new/1"
    assert document["name"] == Path(document["name"]).name == "d_fake_quant_model"
    assert document["precision"] == "fake_quant"
    assert all(Path(path).is_file() for path in document["files"])


def test_every_option_reaches_the_configuration(new, tmp_path):
    new(
        "ort", "--name", "net", "--version", 3, "--max-batch", 16, "--instances", 2, "--threads", 4,
        "--dynamic-batching", "--queue-delay", 900, "--max-queue", 10, "--queue-timeout", 70, "--preferred-batch", 8,
        "--no-warmup", "--ops-path", "kserve", "--graph-level", "1", "--version-policy", "latest:2",
        "--tag", "team=vision", "--response-cache",
    )  # fmt: skip
    config = parse_config(tmp_path / "models/net/config.pbtxt")
    assert (config.name, config.max_batch_size, config.backend) == ("net", 16, "onnxruntime")
    assert (tmp_path / "models/net/3/model.onnx").is_file()
    assert config.instance_group[0].count == 2
    assert config.parameters["intra_op_thread_count"].string_value == "4"
    batching = config.dynamic_batching
    assert (batching.max_queue_delay_microseconds, list(batching.preferred_batch_size)) == (900, [8])
    policy = batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (10, 70)
    assert not config.model_warmup
    assert list(config.model_operations.op_library_filename) == [f"/mnt/models/net/{OPS}"]
    assert config.optimization.graph.level == 1
    assert config.version_policy.latest.num_versions == 2
    assert dict(config.metric_tags) == {"team": "vision", "precision": "int8-ort"}
    assert config.response_cache.enable


def test_ensemble(new, ort_quant, tmp_path):
    (tmp_path / "names.txt").write_text("".join(f"{n}\n" for n in range(10)))
    result = new(
        "qdq", "--name", "net", "--ensemble", "--std", 16, "--resize", "8,8", "--channels", "GRAY",
        "--labels", tmp_path / "names.txt", "--top-k", 2,
    )  # fmt: skip
    assert "Model 'net_ensemble'" in result.out
    assert "needs numpy and Pillow" in result.out
    assert "PASSED: 4 models" in ort_quant("triton", "validate", tmp_path / "models").out


def test_python_backend(new):
    assert "needs numpy and onnxruntime" in new("ort", "--name", "net", "--backend", "python").out


def test_two_versions(new, ort_quant, tmp_path):
    new("float", "--name", "net")
    assert "keeps its own parameters" in new("ort", "--name", "net", "--version", 2, "--threads", 2).err
    assert "exists already" in new("float", "--name", "net", code=2).err
    new("float", "--name", "net", "--force")
    assert "PASSED" in ort_quant("triton", "validate", tmp_path / "models", "--release", "24.03").out


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--name", "a/b"), "Model name 'a/b'"),
        (("--max-batch", 0, "--dynamic-batching"), "there is nothing to join"),
        (("--ops-path", "lib/x.so"), "working directory"),
        (("--tag", "x"), "'x' is not KEY=VALUE"),
        (("--mean", 1), "need --ensemble"),
        (("--ensemble", "--crop", 8), "Preprocessing gives"),
        (("--input-shape", "image:1,8,9"), "does not fit"),
    ],
)
def test_bad_input(new, tmp_path, args, text, files_before_and_after):
    files = files_before_and_after()
    assert text in new("float", *args, code=2).err
    assert files.unchanged()


def test_findings_and_exit_codes(new, ort_quant, tmp_path):
    new("ort", "--name", "net", "--ops-path", "/opt/lib")
    folder = tmp_path / "models"
    assert "PASSED: 1 model, 0 errors, 1 warning" in ort_quant("triton", "validate", folder).out
    failed = ort_quant("triton", "validate", folder, "--strict", code=1)
    assert "FAILED: 1 model, 0 errors, 1 warning" in failed.out
    assert "hint: See that the library of this package's version is at this path" in failed.out
    (folder / "net/1/model.onnx").unlink()
    document = ort_quant("triton", "validate", folder, "--json", code=1).document
    assert document["schema"] == "ort-quant/triton-validate/1"
    assert (document["errors"], document["passed"]) == (1, False)
    assert {"level", "model", "subject", "message", "hint"} == set(document["findings"][0])
    assert "is a model's folder" in ort_quant("triton", "validate", folder / "net", code=2).err
    assert "'99.01' is not known" in ort_quant("triton", "validate", folder, "--release", "99.01", code=2).err
