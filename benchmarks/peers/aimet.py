"""AIMET-ONNX: a simulation with the default configuration, written as a QDQ model by its own ``to_onnx_qdq``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jobs import Result, Stopwatch, versions
from photos import calibration_samples

if TYPE_CHECKING:
    from jobs import Job

__all__ = ["run"]


def run(job: Job) -> Result:
    """Time the simulation's making, calibration and conversion with the scheme in ``options["scheme"]``."""
    import onnx
    from aimet_onnx.quantsim import QuantizationSimModel

    target = Path(job.out) / "model_qdq.onnx"
    watch = Stopwatch()
    model = onnx.load(job.prepared)
    name = model.graph.input[0].name
    simulation = QuantizationSimModel(
        model, quant_scheme=job.options["scheme"], providers=["CPUExecutionProvider"], path=job.out
    )
    made = watch.seconds()
    simulation.compute_encodings({name: sample} for sample in calibration_samples(job))
    calibrated = watch.seconds()
    onnx.save(simulation.to_onnx_qdq(), target)
    return Result(
        seconds=watch.seconds(),
        libraries_mb=watch.libraries_mb,
        parts={"calibration": calibrated - made},
        models={"qdq": str(target)},
        versions=versions("aimet-onnx", "torch", "onnxruntime", "onnx", "numpy", "pillow"),
    )
