"""NNCF, ONNX backend: ``nncf.quantize`` with its default preset on all samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import Result, Stopwatch, versions
from photos import load, read_samples

if TYPE_CHECKING:
    from jobs import Job

__all__ = ["run"]


def run(job: Job) -> Result:
    """Time calibration, bias correction and conversion; samples are decoded again on each of NNCF's passes."""
    import nncf
    import onnx

    name = onnx.load(job.prepared, load_external_data=False).graph.input[0].name
    paths = [sample.path for sample in read_samples(Path(job.samples)) if sample.split == job.split]

    def feed(path: Path) -> dict[str, Any]:
        return {name: load(path, job)}

    target = Path(job.out) / "model_qdq.onnx"
    watch = Stopwatch()
    model = nncf.quantize(onnx.load(job.prepared), nncf.Dataset(paths, feed), subset_size=len(paths))
    onnx.save(model, target)
    return Result(
        seconds=watch.seconds(),
        libraries_mb=watch.libraries_mb,
        models={"qdq": str(target)},
        versions=versions("nncf", "onnxruntime", "onnx", "numpy", "pillow"),
    )
