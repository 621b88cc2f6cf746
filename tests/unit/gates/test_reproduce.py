"""Bit reproducibility: the same model in another process, with other kernels, another runtime, other threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ort_quant_plugin.errors import ConfigError, ModelError
from ort_quant_plugin.gates import replay
from ort_quant_plugin.gates.evaluate import Evaluator
from ort_quant_plugin.gates.metrics import metric_named
from ort_quant_plugin.metrics import same_bits
from ort_quant_plugin.model import write_model
from ort_quant_plugin.ops.instruction_sets import instruction_sets


@pytest.mark.parametrize("model", ["fake_quant", "ascend", "ort", "qdq"])
def test_our_kernels_give_the_same_bits_on_every_instruction_set(gate, model):
    found = Evaluator().measure(gate("bit_equal", model, isa="scalar", max_samples=50))
    assert (found.value, found.samples, found.reference) == (1.0, 50, 1.0)
    assert "scalar" in found.details["there"]
    assert "scalar" not in found.details["here"]
    assert "first_different_layer" not in found.details


FLAKY = """
import os, sys
import numpy, onnxruntime
Session = onnxruntime.InferenceSession
class Other(Session):
    def run(self, names, feed):
        # The second sample of every batch comes out of "relu" by one ULP more, and so does what is behind it.
        found = dict(zip(names, super().run(names, feed)))
        for name in ("hidden", "y"):
            if name in found:
                found[name] = found[name].copy()
                found[name][1] = numpy.nextafter(found[name][1], numpy.float32(9))
        return list(found.values())
onnxruntime.InferenceSession = Other
"""


@pytest.fixture
def other_python(tmp_path):
    """An interpreter whose ONNX Runtime differs in one layer, as another version of it may."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FLAKY)
    path = tmp_path / "python"
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"}:{os.pathsep.join(sys.path)} exec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def two_layers(build, tmp_path):
    write_model(
        build("""<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y)
        { [scale] h = Mul(x, x)  [relu] hidden = Relu(h)  [out] y = Add(hidden, hidden) }"""),
        tmp_path / "two.onnx",
    )
    return str(tmp_path / "two.onnx")


def test_the_first_layer_that_differs_is_named(gate, two_layers, other_python):
    data = np.arange(24, dtype=np.float32).reshape(6, 4)
    found = Evaluator().measure(
        gate("bit_equal", two_layers, reference=None, batch_size=3, python=other_python), data=data
    )
    assert found.value == pytest.approx(4 / 6)
    assert np.array(found.value_rows)[:, 0].tolist() == [1, 0, 1, 1, 0, 1]
    assert (
        found.details["different_samples"] == ["ndarray[1]", "ndarray[4]"]
        or len(found.details["different_samples"]) == 2
    )
    assert (found.details["first_different_layer"], found.details["operator"]) == ("relu", "Relu")
    assert found.details["different_elements"] == "4 of 12"
    assert 0 < found.details["max_abs_difference"] < 1e-5


def test_a_graph_optimization_that_moves_bits(gate, build, tmp_path):
    """BatchNormalization behind a Conv: the runtime multiplies it into the weights, where it may."""
    write_model(
        build(
            """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 1, 64] x) => (float[N, 1, 64] y)
            { [conv] c = Conv(x, w)  [norm] y = BatchNormalization(c, scale, bias, mean, var) }""",
            w=np.full((1, 1, 1), 0.3, np.float32), scale=np.float32([1.7]), bias=np.float32([0.1]),
            mean=np.float32([0.2]), var=np.float32([0.9]),
        ),
        tmp_path / "norm.onnx",
    )  # fmt: skip
    data = np.random.default_rng(1).normal(size=(4, 1, 64)).astype(np.float32)
    model = str(tmp_path / "norm.onnx")
    found = Evaluator().measure(gate("bit_equal", model, reference=None, level="none"), data=data)
    assert found.value < 1
    assert "optimizations off all nodes are equal" in found.details["note"]
    assert "graph optimization none" in found.details["there"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "nothing says how"),
        ({"isa": "mmx"}, ConfigError, "isa is 'mmx'; this machine has .*scalar"),
        ({"python": "no-such-python"}, ConfigError, "python is 'no-such-python'; expected an interpreter"),
        ({"level": "most"}, ConfigError, "level = 'most'; expected a string, one of all, extended, basic, none"),
        ({"python": "/bin/false"}, ModelError, "/bin/false could not run 'digits_fake_quant_model.onnx': exit code 1"),
    ],
)
def test_what_cannot_be_compared(gate, options, error, message):
    with pytest.raises(error, match=message):
        Evaluator().measure(gate("bit_equal", **options))


def test_the_last_words_of_the_other_process_are_quoted(gate, tmp_path):
    path = tmp_path / "python"
    path.write_text(
        "#!/bin/sh\necho some traceback >&2\necho \"ModuleNotFoundError: No module named 'numpy'\" >&2\nexit 1\n"
    )
    path.chmod(0o755)
    with pytest.raises(ModelError, match=r"could not run .*: ModuleNotFoundError: No module named 'numpy'"):
        Evaluator().measure(gate("bit_equal", python=str(path)))


def test_more_threads(gate):
    found = Evaluator().measure(gate("bit_equal", "ort", other_threads=3, max_samples=20))
    assert found.value == 1.0
    assert found.details["there"].endswith("3 threads")


def test_bits_not_numbers():
    one = np.array([0.0, np.nan], np.float32)
    assert same_bits(one, one.copy())
    assert not same_bits(one, np.array([-0.0, np.nan], np.float32))
    assert not same_bits(one, one.astype(np.float64))
    assert not same_bits(one, one.reshape(2, 1))


def test_the_script_needs_nothing_of_this_package(tmp_path):
    """It is run by interpreters that do not have it."""
    code = (
        f"import sys, runpy; runpy.run_path({replay.__file__!r}); print([m for m in sys.modules if 'ort_quant' in m])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout.replace("'", '"')) == []
    assert Path(replay.__file__).read_text().count("ort_quant_plugin") == 0


def test_the_metric_is_a_share_of_hits():
    metric = metric_named("bit_equal")
    assert (metric.binary, metric.needs_reference, metric.blames_layers) == (True, False, False)


@pytest.mark.parametrize(
    "options",
    [
        {"level": "all"},
        {"other_threads": 1},
        {"python": sys.executable},
        {"python": str(Path(sys.executable).with_name("python3"))},
        {"isa": "native"},
        {"level": "all", "other_threads": 1},
    ],
)
def test_the_same_way_twice_is_refused(gate, options, monkeypatch):
    """Such a gate could not fail."""
    monkeypatch.delenv("ORT_QUANT_ISA", raising=False)
    given = {name: instruction_sets()[-1] if value == "native" else value for name, value in options.items()}
    with pytest.raises(ConfigError, match="with itself run the same way"):
        Evaluator().measure(gate("bit_equal", **given))


def test_the_instruction_set_of_the_environment_counts(gate, monkeypatch):
    monkeypatch.setenv("ORT_QUANT_ISA", "scalar")
    with pytest.raises(ConfigError, match=r"isa='scalar' is what runs it here already"):
        Evaluator().measure(gate("bit_equal", isa="scalar"))
