"""ort-quant-plugin: ``quantize``, batch 1, with the defaults unless the row says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jobs import Result, Stopwatch, versions

if TYPE_CHECKING:
    from jobs import Job

__all__ = ["run"]

_KINDS = ("qdq", "fake_quant", "ascend", "ort")


def run(job: Job) -> Result:
    """Time the whole chain; the report says how much of it was calibration."""
    import onnx_ir  # noqa: F401  # loaded lazily by the package; the other tools' clocks start after their imports too
    import onnxruntime  # noqa: F401

    import ort_quant_plugin as oq
    from ort_quant_plugin import steps  # noqa: F401

    preprocess = oq.ImagePreprocess(mean=job.mean, std=job.std, resize=job.resize, crop=job.crop)
    watch = Stopwatch()
    report = oq.quantize(
        job.model,
        job.samples,
        Path(job.out) / "model",
        split=job.split,
        preprocess=preprocess,
        batch_size=1,
        progress=False,
        **job.options,
    )
    return Result(
        seconds=watch.seconds(),
        libraries_mb=watch.libraries_mb,
        parts={"calibration": report.calibration_seconds},
        models={kind: str(report.outputs[kind]) for kind in _KINDS if kind in report.outputs},
        versions={"ort-quant-plugin": oq.__version__, **versions("onnxruntime", "numpy", "pillow")},
        values={"quantized_layers": len(report.quantized), "float_layers": len(report.stayed_float)},
    )
