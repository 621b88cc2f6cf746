"""gates.toml: what it may say, and how it says what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.gates.toml_file import read_gates

GATE = '[[gate]]\nname = "accuracy"\nmetric = "top1"\nmax_drop = 0.01\n'


@pytest.fixture
def read(tmp_path):
    """Read a file with this text."""

    def _read(text: str):
        (tmp_path / "gates.toml").write_text(text, encoding="utf-8")
        return read_gates(tmp_path / "gates.toml")

    return _read


def refusal(read, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert "gates.toml" in caught.value.message
    assert caught.value.hint
    return caught.value


def test_gates_in_the_order_of_the_file_with_paths_relative_to_it(read, tmp_path):
    (tmp_path / "digits.npy").touch()
    file = read(
        """
        [[gate]]
        name = "accuracy"
        metric = "top1"
        model = "out/int8.onnx"
        reference = "/models/float.onnx"
        data = "digits.npy"
        labels = "labels.npy"
        max_drop = 0.01
        significance = 0.05
        baseline = "digits"

        [[gate]]
        name = "top3"
        metric = "top5"
        k = 3
        min_value = 1
        """
    )
    first, second = file.gates
    assert (first.name, first.metric, first.max_drop, first.baseline) == ("accuracy", "top1", 0.01, "digits")
    assert (first.model, first.reference) == (str(tmp_path / "out/int8.onnx"), "/models/float.onnx")
    assert (first.data, first.labels) == (str(tmp_path / "digits.npy"), str(tmp_path / "labels.npy"))
    assert (dict(second.options), second.min_value, second.model) == ({"k": 3}, 1, None)
    assert file.baseline_dir == tmp_path / "quant_baselines"
    assert file.lines == {"accuracy": 3, "top3": 14}


def test_lines_of_names_in_other_quotes(read):
    assert read("gate = [ { metric = 'top1', name = 'x', min_value = 1 } ]").lines == {"x": 1}
    assert read(f"{GATE}\n[[gate]]\n  name='a[1]' # b\nmetric='top1'\nmin_value=1").lines == {"accuracy": 2, "a[1]": 7}


def test_baseline_dir(read, tmp_path):
    assert read(f'baseline_dir = "stored"\n{GATE}').baseline_dir == tmp_path / "stored"


def test_defaults_are_shared_and_overridden(read, tmp_path):
    file = read(
        """
        [defaults]
        model = "a.onnx"
        batch_size = 8
        preprocess = { mean = 127, std = 128 }

        [[gate]]
        name = "one"
        metric = "sqnr_db"
        min_value = 20

        [[gate]]
        name = "two"
        metric = "sqnr_db"
        min_value = 20
        model = "b.onnx"
        batch_size = 1
        preprocess = { std = 64, crop = 224 }
        """
    )
    one, two = file.gates
    assert (one.model, one.batch_size, dict(one.preprocess)) == (str(tmp_path / "a.onnx"), 8, {"mean": 127, "std": 128})
    assert (two.model, two.batch_size) == (str(tmp_path / "b.onnx"), 1)
    assert dict(two.preprocess) == {"mean": 127, "std": 64, "crop": 224}


def test_a_default_threshold_serves_gates_without_one(read):
    file = read(
        f'[defaults]\nmax_drop = 0.02\n[[gate]]\nname = "a"\nmetric = "top1"\n{GATE}'
        '[[gate]]\nname = "snr"\nmetric = "sqnr_db"\nmin_value = 20\n'
    )
    assert [(gate.max_drop, gate.min_value) for gate in file.gates] == [(0.02, None), (0.01, None), (None, 20)]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "has no gate", "[[gate]]"),
        ("gate = []", "has no gate", "[[gate]]"),
        ("[gate]\nname = 'x'", "[gate] is one table", "[[gate]]"),
        ("gate = [1]", "[[gate]] number 1 is 1", "[[gate]]"),
        ("x = 1\n" + GATE, "x is no setting", "Legal here: baseline_dir, defaults, gate"),
        ("[[gates]]\nname = 'x'", "gates is no setting", "Did you mean 'gate'?"),
        ("[[gate]\n", "is no TOML", "quotes"),
        ("[[gate]]\nname = accuracy", "line 2", "quotes"),
        ("baseline_dir = 5\n" + GATE, "baseline_dir is 5", "quotes"),
        ("defaults = 1\n" + GATE, "defaults is 1", "[defaults]"),
        ("[defaults]\nbatchsize = 8\n" + GATE, "[defaults]: batchsize is no setting", "Did you mean 'batch_size'?"),
        ("[defaults]\nk = 3\n" + GATE, "[defaults]: k is no setting", "Legal here: "),
        ("[defaults]\nbaseline = 'x'\n" + GATE, "[defaults]: baseline belongs to one gate", "[[gate]]"),
        ("[defaults]\nbatch_size = 0\n" + GATE, "[defaults]: batch_size is 0", "batch_size"),
        ("[defaults]\npreprocess = 1\n" + GATE, "[defaults]: preprocess is 1", "preprocess"),
        ("[[gate]]\nmetric = 'top1'", "[[gate]] number 1 has no name", "--only"),
        (GATE + "[[gate]]\nname = 3", "[[gate]] number 2 has the name 3", "--only"),
        ("[[gate]]\nname = 'x'\nmetric = 'top1'", "gate 'x': the gate has no threshold", "max_drop"),
        ("[[gate]]\nname = 'x'\nmin_value = 1", "gate 'x': the gate has no metric", "metric"),
        (GATE + "preprocess = 'imagenet'", "gate 'accuracy': preprocess is 'imagenet'", "preprocess"),
        (GATE.replace("0.01", "-1"), "gate 'accuracy': max_drop is -1", "max_drop"),
        (GATE + GATE, "2 gates have the name 'accuracy'", "own"),
        (
            GATE + "baseline = 'b'\n" + GATE.replace("accuracy", "other") + "baseline = 'b'",
            "2 gates have the baseline 'b'",
            "own",
        ),
    ],
)
def test_errors_name_the_table_and_the_cure(read, text, message, hint):
    error = refusal(read, text)
    assert message in error.message
    assert hint in error.hint


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(ConfigError, match=r"Gates file '.*gates\.toml' does not exist"):
        read_gates(tmp_path / "gates.toml")
    (tmp_path / "gates.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_gates(Path(tmp_path / "gates.toml"))


def test_without_a_toml_reader(read, monkeypatch):
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    error = refusal(read, GATE)
    assert "no reader of TOML" in error.message
    assert "ort-quant-plugin[gate]" in error.hint
