"""Character, word and text accuracy; CTC decoding; labels in files."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ort_quant_plugin.errors import ConfigError, DataError
from ort_quant_plugin.gates.metrics import Batch, metric_named
from ort_quant_plugin.gates.metrics.text import ctc_texts

pytest.importorskip("rapidfuzz")

DECODER = "def decode(outputs):\n    return bytes(outputs['y'][0].astype('uint8')).decode().strip()\n"


def scores(*texts: str) -> dict[str, np.ndarray]:
    """Outputs that the decoder above reads."""
    width = max(map(len, texts))
    return {"y": np.array([[ord(c) for c in text.ljust(width)] for text in texts], np.float32)}


@pytest.fixture
def decode(tmp_path):
    path = tmp_path / "reader.py"
    path.write_text(DECODER)
    return f"{path}:decode"


def value(name: str, decode: str, truth: list[str], found: list[str]) -> float:
    metric = metric_named(name)
    batch = Batch(0, len(truth), [f"s{i}" for i in range(len(truth))], truth, None, {"decode": decode})
    return float(metric.from_mean_rows(metric.rows(batch, scores(*found)).mean(axis=0), {}))


def test_the_textbook_distance(decode):
    """kitten → sitting is the example of every text on edit distances: 3 operations."""
    assert value("char_accuracy", decode, ["sitting"], ["kitten"]) == pytest.approx(1 - 3 / 7)


def test_errors_count_over_all_samples(decode):
    truth, found = ["the cat sat", "on"], ["the bat sat", "on it"]
    assert value("char_accuracy", decode, truth, found) == pytest.approx(1 - (1 + 3) / 13)
    assert value("word_accuracy", decode, truth, found) == pytest.approx(1 - (1 + 1) / 4)
    assert value("text_accuracy", decode, truth, found) == 0
    assert value("text_accuracy", decode, ["on", "off"], ["on", "of"]) == 0.5


def test_the_worst_is_zero(decode):
    assert value("char_accuracy", decode, ["a"], ["xyz"]) == 0
    assert value("char_accuracy", decode, [""], ["x"]) == 0
    assert value("char_accuracy", decode, ["", ""], ["", ""]) == 1


def test_greedy_ctc():
    """Steps: a a blank a b b → "aab"; and a space as the last class."""
    steps = np.eye(4, dtype=np.float32)[[[1, 1, 0, 1, 2, 2], [3, 0, 0, 2, 3, 3]]]
    assert ctc_texts(steps, ["a", "b"]) == ["aab", " b "]
    assert ctc_texts(steps, ["a", "b", "c"]) == ["aab", "cbc"]
    assert ctc_texts(steps[:1], ["x", "y", "z"], blank=3) == ["yxyz"]
    with pytest.raises(DataError, match=r"4 classes for 1 characters; expected 2 .* or 3"):
        ctc_texts(steps, ["a"])


def test_characters_from_a_file(tmp_path):
    (tmp_path / "chars.txt").write_text("a\nb\n \n", encoding="utf-8")  # the last character is a space
    steps = np.eye(4, dtype=np.float32)[[[1, 3, 2]]]
    batch = Batch(0, 1, ["s"], ["a b"], None, {"characters": str(tmp_path / "chars.txt")})
    assert metric_named("text_accuracy").rows(batch, {"y": steps}).tolist() == [[1.0]]


@pytest.mark.parametrize("options", [{}, {"decode": "a:b", "characters": "c.txt"}])
def test_one_way_to_decode(options):
    with pytest.raises(ConfigError, match=r"needs one of decode= and characters="):
        metric_named("char_accuracy").rows(Batch(0, 1, ["s"], ["a"], None, options), scores("a"))


def test_decoders_that_fail(tmp_path):
    path = tmp_path / "reader.py"
    path.write_text("def fails(outputs):\n    raise KeyError('logits')\n\ndef number(outputs):\n    return 3\n")
    batch = Batch(0, 1, ["photo.png"], ["a"], None, {"decode": f"{path}:fails"})
    with pytest.raises(DataError, match=r"decode failed for sample 'photo\.png': KeyError: 'logits'"):
        metric_named("char_accuracy").rows(batch, scores("a"))
    batch = Batch(0, 1, ["photo.png"], ["a"], None, {"decode": f"{path}:number"})
    with pytest.raises(DataError, match=r"returned a int for sample 'photo\.png'; expected a str"):
        metric_named("char_accuracy").rows(batch, scores("a"))
    batch = Batch(0, 1, ["photo.png"], ["a"], None, {"decode": f"{path}:missing"})
    with pytest.raises(ConfigError, match=r"has no 'missing'"):
        metric_named("char_accuracy").rows(batch, scores("a"))


def test_a_changed_decoder_is_read_again(tmp_path):
    import os

    path = tmp_path / "reader.py"
    batch = Batch(0, 1, ["s"], ["one"], None, {"decode": f"{path}:decode"})
    for time, text in enumerate(("one", "two")):
        path.write_text(f"def decode(outputs):\n    return {text!r}\n")
        os.utime(path, (time, time))
        assert metric_named("text_accuracy").rows(batch, scores("a")).tolist() == [[float(text == "one")]]


def test_labels_in_files(tmp_path):
    metric = metric_named("char_accuracy")
    data = SimpleNamespace(batch_names=[["b.png"], ["a.png"]])
    (tmp_path / "texts.csv").write_text('file,text\nx/a.png,first\nb.png,"second, quoted"\na.png,first\n')
    assert metric.read_labels(str(tmp_path / "texts.csv"), data) == ["second, quoted", "first"]
    (tmp_path / "texts.txt").write_text("one\n\nthree \n")
    assert metric.read_labels(tmp_path / "texts.txt", data) == ["one", "", "three "]
    assert metric.read_labels(["x", "y"], data) == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "file,label\na.png,x\n", "line 2: no file and text"),
        ("t.csv", "file,text\na.png,x\n", r"no line for sample 'b\.png'"),
        ("t.json", "[]", "neither .txt nor .csv"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        metric_named("char_accuracy").read_labels(tmp_path / name, SimpleNamespace(batch_names=[["b.png"]]))


def test_labels_that_are_no_texts():
    with pytest.raises(DataError, match="no texts"):
        metric_named("char_accuracy").read_labels([1, 2], SimpleNamespace(batch_names=[]))


def test_a_float_model_that_gives_nan_is_no_measure(tmp_path):
    (tmp_path / "characters.txt").write_text("a\nb\n")
    steps = np.eye(3, dtype=np.float32)[[[1, 2]]]
    broken = np.full_like(steps, np.nan)
    options = {"decode": None, "characters": str(tmp_path / "characters.txt"), "blank": 0}
    metric = metric_named("text_accuracy")
    assert metric.rows(Batch(0, 1, ["s"], ["ab"], {"y": steps}, options), {"y": steps}).tolist() == [[1]]
    with pytest.raises(DataError, match="Output 'y' of the float model is NaN for sample 's'"):
        metric.rows(Batch(0, 1, ["s"], ["ab"], {"y": broken}, options), {"y": broken})
