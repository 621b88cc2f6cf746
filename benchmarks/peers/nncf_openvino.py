"""NNCF, OpenVINO backend: ``nncf.quantize`` with its default preset, written as OpenVINO's IR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jobs import Result, Stopwatch, versions
from photos import calibration_samples

if TYPE_CHECKING:
    from jobs import Job

__all__ = ["run"]


def run(job: Job) -> Result:
    """Convert the float model, quantize it with all samples, write it."""
    import nncf
    import openvino as ov

    target = Path(job.out) / "model.xml"
    watch = Stopwatch()
    samples = list(calibration_samples(job))
    model = nncf.quantize(ov.convert_model(job.model), nncf.Dataset(samples), subset_size=len(samples))
    ov.save_model(model, target)
    return Result(
        seconds=watch.seconds(),
        libraries_mb=watch.libraries_mb,
        models={"openvino": str(target)},
        versions=versions("openvino", "nncf", "numpy"),
    )
