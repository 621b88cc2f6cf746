"""Samples for every tool but ours, decoded one at a time; pixel for pixel what ``ort_quant_plugin`` makes of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs import Job
    from numpy.typing import NDArray

__all__ = ["SUFFIXES", "Sample", "calibration_samples", "load", "read_samples"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".npy"})


@dataclass(frozen=True)
class Sample:
    """One file and, where it is known, its class."""

    path: Path
    split: str
    label: int | None


def read_samples(listing: Path) -> list[Sample]:
    """Read a .csv with the columns file and, optionally, split and class_index."""
    with listing.open(encoding="utf-8-sig", newline="") as stream:
        return [
            Sample(
                listing.parent / row["file"],
                row.get("split") or "",
                int(row["class_index"]) if row.get("class_index") else None,
            )
            for row in csv.DictReader(stream)
        ]


def calibration_samples(job: Job) -> Iterator[NDArray[np.float32]]:
    """Decode the samples of the job's split, one (1, …) array at a time."""
    for sample in read_samples(Path(job.samples)):
        if sample.split == job.split:
            yield load(sample.path, job)


def load(path: Path, job: Job) -> NDArray[np.float32]:
    """Decode one sample: an image as (1, 3, H, W), a .npy file as (1, …)."""
    if path.suffix == ".npy":
        stored: NDArray[np.float32] = np.load(path)[np.newaxis]
        return stored
    import PIL.Image

    with PIL.Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    if job.resize is not None:
        short = min(width, height)
        width, height = width * job.resize // short, height * job.resize // short
        image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
    if job.crop is not None:
        left, top = (width - job.crop) // 2, (height - job.crop) // 2
        image = image.crop((left, top, left + job.crop, top + job.crop))
    pixels = (np.asarray(image, np.float32) - np.asarray(job.mean, np.float32)) / np.asarray(job.std, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])
