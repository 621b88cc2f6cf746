"""ONNX Runtime's ``quantize_static``: QDQ, uint8 activations, int8 weights, per channel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import Result, Stopwatch, versions
from photos import calibration_samples

if TYPE_CHECKING:
    from jobs import Job

__all__ = ["run"]


def run(job: Job) -> Result:
    """Time calibration and conversion with the method in ``options["method"]``."""
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    name = onnx.load(job.prepared, load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._samples = calibration_samples(job)

        def get_next(self) -> dict[str, Any] | None:
            sample = next(self._samples, None)
            return None if sample is None else {name: sample}

    target = Path(job.out) / "model_qdq.onnx"
    watch = Stopwatch()
    quantize_static(
        job.prepared,
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod[job.options["method"]],
    )
    return Result(
        seconds=watch.seconds(),
        libraries_mb=watch.libraries_mb,
        models={"qdq": str(target)},
        versions=versions("onnxruntime", "onnx", "numpy", "pillow"),
    )
