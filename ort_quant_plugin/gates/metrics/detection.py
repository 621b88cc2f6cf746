"""Detectors: mean average precision of boxes, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ort_quant_plugin.errors import ConfigError, DataError
from ort_quant_plugin.files import read_text
from ort_quant_plugin.gates.metrics.base import GateMetric, Measured
from ort_quant_plugin.gates.metrics.extras import DECODE, call_decoder, load_decoder, one_sample, require

if TYPE_CHECKING:
    from ort_quant_plugin.calibration.data import CalibrationData
    from ort_quant_plugin.gates.evaluation import Evaluation

__all__ = ["BoxMap", "CocoTruth"]

_STATS = {"box_map": 0, "box_map50": 1}  # places in COCOeval.stats


class CocoTruth(Sequence[Any]):
    """COCO annotations, one entry per sample: ``{"image": {…}, "annotations": […]}``.

    Args:
        document: A COCO file's content: ``images``, ``annotations``, ``categories``.
        images: Image of each sample.
    """

    def __init__(self, document: Mapping[str, Any], images: Sequence[Mapping[str, Any]]) -> None:
        self.categories = list(document["categories"])
        by_image = defaultdict(list)
        for annotation in document["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        self._entries = [{"image": image, "annotations": by_image[image["id"]]} for image in images]

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)


class BoxMap(GateMetric):
    """COCO's average precision of boxes, mean over categories and (``box_map``) IoU thresholds 0.50 … 0.95.

    The option ``decode`` names a function ``decode(outputs, image)`` that gets the outputs of one image by name, each
    with a batch axis of 1, and the image's entry in the annotations (``width``, ``height``, ``file_name`` …).
    It returns ``(boxes, scores, categories)``: boxes (n, 4) as x, y, width, height in pixels of the annotated image,
    scores (n,), category ids (n,).

    Average precision is no mean over images, so there is no confidence interval.

    Args:
        name: ``"box_map"`` or ``"box_map50"`` (IoU 0.50 only).
    """

    unit = "share"
    kind: Literal["own", "pair"] = "own"
    needs_labels = True
    needs_reference = False
    options = (DECODE,)

    def __init__(self, name: Literal["box_map", "box_map50"]) -> None:
        self.name = name
        self.summary = f"COCO box mAP at IoU {'0.50 to 0.95' if name == 'box_map' else '0.50'} (pycocotools)"

    def read_labels(self, labels: Any, data: CalibrationData) -> CocoTruth:
        """A COCO annotation file, or its content.

        Images are matched with the samples by file name. Where no name matches and there are as many images as samples,
        they are taken in order.
        """
        document, where = _read_document(labels)
        missing = [key for key in ("images", "annotations", "categories") if key not in document]
        if missing:
            raise DataError(
                f"{where} has no {missing[0]!r}; expected COCO annotations.", hint="Give an instances_….json file."
            )
        _check_document(document, where)
        return CocoTruth(document, _match_images(document["images"], data, where))

    def measure(self, evaluation: Evaluation) -> Measured:
        """Decode the boxes of both models and evaluate them."""
        if evaluation.options["decode"] is None:
            raise ConfigError(
                f"The metric {self.name!r} needs decode=, the function that turns outputs into boxes.",
                hint="decode='module:callable'; docs/reference/gates.md tells what it gets and returns.",
            )
        decode = load_decoder(evaluation.options["decode"])
        truth = evaluation.labels
        assert isinstance(truth, CocoTruth)
        entries: list[dict[str, Any]] = []
        found: list[dict[str, Any]] = []
        reference: list[dict[str, Any]] = []
        for batch, outputs in evaluation.batches():
            for index, entry in enumerate(batch.labels):
                image, name = entry["image"], batch.names[index]
                boxes = call_decoder(decode, name, one_sample(outputs, index, batch.size), image)
                found += _detections(boxes, image, name)
                if batch.reference is not None:
                    boxes = call_decoder(decode, name, one_sample(batch.reference, index, batch.size), image)
                    reference += _detections(boxes, image, name)
            entries += batch.labels
        value = self._precision(entries, truth.categories, found)
        expected = self._precision(entries, truth.categories, reference) if evaluation.reference is not None else None
        return Measured(value, len(entries), reference=expected, details={"boxes": len(found)})

    def _precision(self, entries: list[dict[str, Any]], categories: list[Any], found: list[dict[str, Any]]) -> float:
        coco = require("pycocotools.coco", "pycocotools", self.name).COCO
        evaluator = require("pycocotools.cocoeval", "pycocotools", self.name).COCOeval
        annotations = [_complete(item) for entry in entries for item in entry["annotations"]]
        if not annotations:
            raise DataError(
                f"None of the {len(entries)} images has an annotated box.", hint="Give images that hold objects."
            )
        for number, annotation in enumerate(annotations, 1):
            annotation["id"] = number  # pycocotools takes 0 for "no match"
        if not found:
            return 0.0
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            truth = coco()
            truth.dataset = {
                "images": [entry["image"] for entry in entries],
                "annotations": annotations,
                "categories": categories,
                "info": {},
            }
            truth.createIndex()
            judge = evaluator(truth, truth.loadRes(found), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return float(judge.stats[_STATS[self.name]])


def _read_document(labels: Any) -> tuple[Mapping[str, Any], str]:
    if not isinstance(labels, (str, Path)):
        document, where = labels, "The labels"
    else:
        where = f"Annotation file {str(labels)!r}"
        text = read_text(labels, what="Annotation file", error=DataError, hint="Give a COCO annotation file.")
        try:
            document = json.loads(text)
        except ValueError as error:
            raise DataError(f"{where} is not JSON: {error}.", hint="Give a COCO annotation file.") from error
    if not isinstance(document, Mapping):
        raise DataError(
            f"{where} holds a {type(document).__name__}; expected COCO annotations.", hint="Give an object."
        )
    return document, where


def _match_images(
    images: Sequence[Mapping[str, Any]], data: CalibrationData, where: str
) -> Sequence[Mapping[str, Any]]:
    """The image of each sample: that of the same ``file_name``, else the only one whose file has the same name."""
    names = [name for batch in data.batch_names for name in batch]
    by_path, by_file = defaultdict(list), defaultdict(list)
    for image in images:
        path = PurePosixPath(str(image.get("file_name", "")))
        by_path[str(path)].append(image)
        by_file[path.name].append(image)
    found = []
    for name in names:
        same = by_path.get(name) or by_file.get(PurePosixPath(name).name, [])
        if len(same) > 1:
            raise DataError(
                f"{where} has {len(same)} images named {PurePosixPath(name).name!r}; sample {name!r} may be any of "
                "them.",
                hint="Name images in 'file_name' by the path below the folder of the data.",
                sample=name,
            )
        found.append(same[0] if same else None)
    matched = [image for image in found if image is not None]
    if len(matched) == len(names):
        return matched
    if not matched and len(images) == len(names):
        return images  # arrays have no file names
    missing = next(name for name, image in zip(names, found, strict=True) if image is None)
    raise DataError(
        f"{where} has no image {missing!r} ({len(matched)} of {len(names)} samples are there).",
        hint="Annotate every image of the data, and name it by 'file_name'.",
        sample=missing,
    )


def _check_document(document: Mapping[str, Any], where: str) -> None:
    """What pycocotools would stumble over, or take for something else.

    Raises:
        DataError: Names the entry.
    """
    needed = {"images": ("id",), "annotations": ("image_id", "category_id", "bbox"), "categories": ("id",)}
    for kind, keys in needed.items():
        entries = document[kind]
        if not isinstance(entries, list):
            raise DataError(
                f"{where}: {kind!r} is a {type(entries).__name__}; expected a list.", hint="Give COCO annotations."
            )
        for index, entry in enumerate(entries):
            missing = [key for key in keys if not isinstance(entry, Mapping) or key not in entry]
            if missing:
                raise DataError(
                    f"{where}: entry {index} of {kind!r} has no {missing[0]!r}.", hint="Give COCO annotations of boxes."
                )
    for index, annotation in enumerate(document["annotations"]):
        if not _is_box(annotation["bbox"]):
            raise DataError(
                f"{where}: 'bbox' of annotation {index} is {annotation['bbox']!r}; expected [x, y, width, height].",
                hint="Give four numbers in pixels.",
                value=annotation["bbox"],
            )


def _is_box(box: Any) -> bool:
    try:
        sides = np.asarray(box)
    except ValueError:  # lists of different lengths
        return False
    return sides.shape == (4,) and sides.dtype.kind in "iuf" and bool(np.isfinite(sides).all())


def _complete(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """With what pycocotools needs and hand-made files leave out."""
    _, _, width, height = annotation["bbox"]
    return {"iscrowd": 0, "area": width * height, **annotation}


def _detections(decoded: Any, image: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    try:
        boxes, scores, categories = (np.asarray(part, np.float64) for part in decoded)
        boxes = boxes.reshape(-1, 4)
        if not len(boxes) == len(scores) == len(categories):
            raise ValueError(f"{len(boxes)} boxes, {len(scores)} scores, {len(categories)} categories")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"decode returned no (boxes, scores, categories) for sample {name!r}: {error}.",
            hint="Return arrays of the shapes (n, 4), (n,) and (n,).",
            sample=name,
        ) from error
    for what, numbers in (("box", boxes), ("score", scores), ("category", categories)):
        if not np.isfinite(numbers).all():
            raise DataError(
                f"decode returned a {what} that is NaN or infinite for sample {name!r}.",
                hint="The model's output is broken, or decode has to leave such detections out.",
                sample=name,
            )
    return [
        {"image_id": image["id"], "bbox": box, "score": score, "category_id": category}
        for box, score, category in zip(boxes.tolist(), scores.tolist(), categories.tolist(), strict=True)
    ]
