"""What a gate accepts, and what it says when it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.gates.gate import Gate

LEAST = {"name": "g", "metric": "top1", "max_drop": 0.01}


def gate(base=Path("/project"), **settings):
    return Gate.from_mapping({**LEAST, **settings}, where="gates.toml, gate 'g'", base=base)


def test_least():
    found = gate()
    assert (found.name, found.metric, found.max_drop) == ("g", "top1", 0.01)
    assert (found.min_value, found.baseline, found.threads, found.layers) == (None, None, 1, True)


def test_paths_start_from_the_base(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "post.py").touch()
    (tmp_path / "libx.so").touch()
    found = gate(
        tmp_path,
        model="out/net.onnx",
        reference="/models/net.onnx",
        labels=Path("labels.csv"),
        data="photos",
        op_libraries="libx.so",
        decode="post.py:boxes",
        characters="post.py",
        python="venv/bin/python",
    )
    assert found.model == str(tmp_path / "out" / "net.onnx")
    assert found.reference == "/models/net.onnx"
    assert found.labels == str(tmp_path / "labels.csv")
    assert found.data == str(tmp_path / "photos")
    assert found.op_libraries == (str(tmp_path / "libx.so"),)
    assert dict(found.options) == {
        "decode": f"{tmp_path}/post.py:boxes",
        "characters": str(tmp_path / "post.py"),
        "python": str(tmp_path / "venv" / "bin" / "python"),
    }


def test_what_is_no_path_stays(tmp_path):
    """A module's callable, several sources, a program of PATH, a library the loader knows."""
    found = gate(
        tmp_path, data="project.data:batches", decode="project:boxes", python="python3.12", op_libraries=["l.so"]
    )
    assert (found.data, found.options["decode"], found.options["python"]) == (
        "project.data:batches", "project:boxes", "python3.12",
    )  # fmt: skip
    assert found.op_libraries == ("l.so",)
    assert gate(tmp_path, data="a.npy;b.npy").data == "a.npy;b.npy"
    assert gate(tmp_path, op_libraries=["lib/l.so"]).op_libraries == (str(tmp_path / "lib" / "l.so"),)


def test_data_that_is_missing_is_named_by_its_whole_path(tmp_path):
    assert gate(tmp_path, data="photos").data == str(tmp_path / "photos")


def test_a_callable_in_a_file(tmp_path):
    (tmp_path / "data.py").touch()
    assert gate(tmp_path, data="data.py:batches").data == f"{tmp_path}/data.py:batches"


def test_unknown_keys_are_options_of_the_metric():
    assert dict(gate(k=3, options={"output": "logits"}).options) == {"k": 3, "output": "logits"}


def test_none_counts_as_not_given():
    found = gate(model=None, threads=None, k=None)
    assert (found.model, found.threads, dict(found.options)) == (None, 1, {})


def test_threshold_zero_is_one():
    assert gate(max_drop=0).max_drop == 0
    assert gate(max_drop=None, min_value=0.0).min_value == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": None}, "has no metric"),
        ({"name": None}, "has no name"),
        ({"name": "a b"}, "name is 'a b'; expected letters"),
        ({"name": ""}, "name is ''; expected a name"),
        ({"metric": 5}, "metric is 5; expected a name"),
        ({"max_drop": None}, "no threshold, so nothing could fail it"),
        ({"max_drop": -0.1}, "max_drop is -0.1; expected at least 0"),
        ({"max_drop": "1 %"}, "max_drop is '1 %'; expected a number"),
        ({"max_drop": True}, "max_drop is True; expected a number"),
        ({"min_value": float("nan")}, "min_value is nan; expected a finite number"),
        ({"max_value": float("inf")}, "max_value is inf; expected a finite number"),
        ({"significance": 0}, r"significance is 0; expected a level in \(0, 0.5\]"),
        ({"significance": 0.95}, "significance is 0.95; expected a level"),
        ({"max_samples": 0}, "max_samples is 0; expected an integer of at least 1"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"threads": True}, "threads is True"),
        ({"baseline": 5}, "baseline is 5; expected a name"),
        ({"baseline": "../up"}, "'../up' is no name of a baseline"),
        ({"model": 5}, "model is 5; expected a path"),
        ({"model": ""}, "model is ''; expected a path"),
        ({"data": 5}, "data is 5; expected a path or module:callable"),
        ({"decode": 5}, "decode is 5; expected a path or module:callable"),
        ({"op_libraries": 5}, "op_libraries is 5; expected a list of paths"),
        ({"op_libraries": [5]}, r"op_libraries is 5; expected a path"),
        ({"preprocess": 5}, "preprocess is 5; expected settings by name"),
        ({"options": [1]}, r"options is \[1\]; expected settings by name"),
        ({"layers": "yes"}, "layers is 'yes'; expected true or false"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        gate(**settings)
    assert caught.value.message.startswith("gates.toml, gate 'g': ")
    assert caught.value.hint


def test_dictionary_and_back(tmp_path):
    found = gate(
        tmp_path, model="m.onnx", k=3, op_libraries=["a/l.so"], layers=False, max_drop=0.0, preprocess={"mean": 1}
    )
    document = found.to_dict()
    assert document == {
        "name": "g", "metric": "top1", "model": str(tmp_path / "m.onnx"), "max_drop": 0.0, "preprocess": {"mean": 1},
        "options": {"k": 3}, "op_libraries": [str(tmp_path / "a/l.so")], "layers": False,
    }  # fmt: skip
    assert Gate.from_mapping(document, where="report", base=Path()) == found


def test_import_is_light():
    code = (
        "import sys, ort_quant_plugin.gates.gate, ort_quant_plugin.gates.measurement\n"
        "print([m for m in ('numpy', 'onnx', 'onnxruntime', 'onnx_ir', 'click', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
