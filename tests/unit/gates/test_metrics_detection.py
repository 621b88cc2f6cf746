"""Mean average precision on annotations small enough to compute by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.errors import ConfigError, DataError
from ort_quant_plugin.gates.evaluate import Evaluator
from ort_quant_plugin.gates.gate import Gate
from ort_quant_plugin.gates.metrics import metric_named
from ort_quant_plugin.model import write_model

pytest.importorskip("pycocotools")

BOX = [10.0, 20.0, 100.0, 50.0]
TRUTH = {
    "images": [{"id": i, "file_name": f"images/{i}.npy", "width": 200, "height": 100} for i in (7, 8)],
    "annotations": [{"id": 0, "image_id": i, "category_id": 3, "bbox": BOX} for i in (7, 8)],
    "categories": [{"id": 3, "name": "cat"}],
}
# A row of the model's output is x, y, width, height, score; the decoder drops rows without a score.
DECODER = """
import numpy

def decode(outputs, image):
    assert image["width"] == 200
    rows = outputs["y"][0]
    rows = rows[rows[:, 4] > 0]
    return rows[:, :4], rows[:, 4], [3] * len(rows)

def wrong(outputs, image):
    return outputs["y"][0], [1.0]

def all_rows(outputs, image):
    rows = outputs["y"][0]
    rows = numpy.where(rows == 999, numpy.nan, numpy.where(rows == 998, numpy.inf, rows))
    return rows[:, :4], rows[:, 4], [3] * len(rows)

def texts(outputs, image):
    return [["a", 0, 5, 5]], ["x"], [3]
"""


@pytest.fixture
def project(build, tmp_path):
    """An identity model, one sample file per image, annotations and a decoder; returns the gate's measurement."""
    write_model(
        build("""<ir_version: 8, opset_import: ["" : 17]>
        detector (float[N, 2, 5] x) => (float[N, 2, 5] y) { y = Identity(x) }"""),
        tmp_path / "model.onnx",
    )
    (tmp_path / "decoder.py").write_text(DECODER)
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))

    def _measure(boxes: dict[int, list[list[float]]], metric: str = "box_map", **settings):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for image, rows in boxes.items():
            sample = np.zeros((2, 5), np.float32)
            for row, values in enumerate(rows):
                sample[row] = values
            np.save(folder / f"{image}.npy", sample)
        given = {
            "name": metric, "metric": metric, "model": tmp_path / "model.onnx", "data": folder,
            "labels": tmp_path / "truth.json", "min_value": 0, "decode": f"{tmp_path / 'decoder.py'}:decode",
        } | settings  # fmt: skip
        return Evaluator().measure(Gate.from_mapping(given, where="test", base=Path()))

    return _measure


def test_all_boxes_found(project):
    found = project({7: [[*BOX, 0.9]], 8: [[*BOX, 0.8]]})
    assert (found.value, found.samples, found.value_rows) == (1.0, 2, None)
    assert found.details == {"boxes": 2}


def test_half_of_the_boxes_found(project):
    """Precision is 1 up to recall ½: 51 of COCO's 101 recall points."""
    found = project({7: [[*BOX, 0.9]], 8: []}, batch_size=2)
    assert found.value == pytest.approx(51 / 101)


def test_a_box_that_overlaps_by_two_thirds(project):
    """Same box, 1.5 times as wide: IoU 2/3 meets the thresholds 0.50, 0.55, 0.60 and 0.65 of ten."""
    wide = [10.0, 20.0, 150.0, 50.0]
    boxes = {7: [[*wide, 0.9]], 8: [[*wide, 0.9]]}
    assert project(boxes).value == pytest.approx(0.4)
    assert project(boxes, "box_map50").value == pytest.approx(1.0)


def test_a_wrong_box_first(project):
    """In the order of scores: wrong, right, right. Precision at recall ½ and 1 is at best 2/3."""
    found = project({7: [[150, 80, 10, 10, 0.95], [*BOX, 0.9]], 8: [[*BOX, 0.8]]})
    assert found.value == pytest.approx(2 / 3)


def test_nothing_found(project):
    assert project({7: [], 8: []}).value == 0.0


def test_images_are_matched_by_name(project, tmp_path):
    """The annotations list image 8 first; its box lies elsewhere."""
    other = [50.0, 5.0, 20.0, 20.0]
    truth = {**TRUTH, "images": TRUTH["images"][::-1]}
    truth["annotations"] = [
        {"image_id": 7, "category_id": 3, "bbox": BOX}, {"image_id": 8, "category_id": 3, "bbox": other}
    ]  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    assert project({7: [[*BOX, 0.9]], 8: [[*other, 0.9]]}).value == 1.0


def test_float_and_quantized_model_have_a_value_each(project, tmp_path, build):
    model = build(
        """<ir_version: 8, opset_import: ["" : 17]>
        detector (float[N, 2, 5] x) => (float[N, 2, 5] y) { y = Mul(x, c) }""",
        c=np.float32(0),
    )
    write_model(model, tmp_path / "blind.onnx")
    found = project({7: [[*BOX, 0.9]], 8: []}, reference=tmp_path / "model.onnx", model=tmp_path / "blind.onnx")
    assert (found.value, found.reference) == (0.0, pytest.approx(51 / 101))


def test_arrays_are_matched_in_order():
    metric = metric_named("box_map")
    truth = metric.read_labels(TRUTH, SimpleNamespace(batch_names=[["array[0]"], ["array[1]"]]))
    assert [entry["image"]["id"] for entry in truth] == [7, 8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, "has no 'annotations'"),
        ({"images": TRUTH["images"][:1]}, r"no image '8\.npy' \(1 of 2 samples are there\)"),
        ({"annotations": []}, "None of the 2 images has an annotated box"),
        ({"annotations": [{"category_id": 3, "bbox": BOX}]}, "entry 0 of 'annotations' has no 'image_id'"),
        ({"annotations": [{"image_id": 7, "category_id": 3}]}, "entry 0 of 'annotations' has no 'bbox'"),
        ({"annotations": [{"image_id": 7, "bbox": BOX}]}, "entry 0 of 'annotations' has no 'category_id'"),
        ({"annotations": {}}, "'annotations' is a dict; expected a list"),
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": ["1", 2, 3, 4]}]},
            r"'bbox' of annotation 0 is \['1', 2, 3, 4\]; expected \[x, y, width, height\]",
        ),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": BOX[:3]}]}, "'bbox' of annotation 0 is"),
        ({"images": [{"file_name": "7.npy"}]}, "entry 0 of 'images' has no 'id'"),
        ({"images": [7, 8]}, "entry 0 of 'images' has no 'id'"),
        ({"categories": [{"name": "cat"}]}, "entry 0 of 'categories' has no 'id'"),
    ],
)
def test_annotations_that_cannot_be_used(project, tmp_path, change, message):
    truth = {key: value for key, value in {**TRUTH, **change}.items() if value is not None}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match=message):
        project({7: [], 8: []})


def test_files_that_are_no_annotations(project, tmp_path):
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(DataError, match=r"truth\.json' is not JSON"):
        project({7: [], 8: []})


def test_the_decoder_is_checked(project, tmp_path):
    with pytest.raises(DataError, match=r"decode returned no \(boxes, scores, categories\) for sample '7\.npy'"):
        project({7: [[*BOX, 0.9]], 8: []}, decode=f"{tmp_path / 'decoder.py'}:wrong")
    with pytest.raises(ConfigError, match="needs decode="):
        project({7: [], 8: []}, decode=None)


def test_a_batch_must_tell_its_images_apart(project, build, tmp_path):
    model = build("""<ir_version: 8, opset_import: ["" : 17]>
        detector (float[N, 2, 5] x) => (float[M, 5] y) { s = Constant<value_ints = [-1, 5]>() y = Reshape(x, s) }""")
    assert isinstance(model, ir.Model)
    write_model(model, tmp_path / "flat.onnx")
    with pytest.raises(DataError, match=r"No output has one row for each of the 2 samples"):
        project({7: [], 8: []}, model=tmp_path / "flat.onnx", batch_size=2)


@pytest.mark.parametrize(
    ("row", "what"), [([999, *BOX[1:], 0.9], "box"), ([*BOX, 999], "score"), ([*BOX, 998], "score")]
)
def test_boxes_that_are_no_numbers(project, tmp_path, row, what):
    """pycocotools takes them for hits."""
    decode = f"{tmp_path / 'decoder.py'}:all_rows"
    with pytest.raises(DataError, match=f"decode returned a {what} that is NaN or infinite for sample '7.npy'"):
        project({7: [row], 8: [[*BOX, 0.9]]}, decode=decode)


def test_boxes_that_are_texts(project, tmp_path):
    with pytest.raises(DataError, match=r"decode returned no .* could not convert string to float"):
        project({7: [], 8: []}, decode=f"{tmp_path / 'decoder.py'}:texts")


def read(images, *names):
    documents = [{"id": number, "file_name": name} for number, name in enumerate(images)]
    truth = metric_named("box_map").read_labels({**TRUTH, "images": documents}, SimpleNamespace(batch_names=[[*names]]))
    return [entry["image"]["id"] for entry in truth]


def test_the_whole_name_comes_first():
    """Two cameras name their files alike."""
    assert read(["b/0.npy", "a/0.npy"], "a/0.npy", "b/0.npy") == [1, 0]
    assert read(["left/0.npy", "1.npy"], "0.npy", "data/1.npy") == [0, 1]


@pytest.mark.parametrize("images", [["a/0.npy", "b/0.npy"], ["0.npy", "0.npy"]])
def test_images_that_are_named_alike(images):
    with pytest.raises(DataError, match=r"has 2 images named '0\.npy'; sample '0\.npy' may be any of them"):
        read(images, "0.npy")
