"""Run the calibration model over data; its custom ops write the record file."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import CalibrationError, DataError
from ort_quant_plugin.ops.library import open_session
from ort_quant_plugin.progress import ProgressEvent

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ort_quant_plugin.calibration.data import CalibrationData
    from ort_quant_plugin.progress import Progress

__all__ = ["CalibrationReport", "run_calibration"]


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration run did.

    Attributes:
        batches: Number of batches run.
        seconds: Wall time, session creation included.
    """

    batches: int
    seconds: float


def run_calibration(
    model_file: str | os.PathLike[str],
    data: CalibrationData,
    batch_num: int,
    *,
    progress: Progress | None = None,
    op_libraries: Sequence[str] = (),
) -> CalibrationReport:
    """Run the first ``batch_num`` batches through a calibration model.

    The range of every tensor is complete, and in the record file, when this returns.

    Raises:
        CalibrationError: The data has fewer than ``batch_num`` batches, or a calibration node refused its data
            (NaN, infinity, absurd magnitude); the message names the node.
        DataError: A batch does not fit the model.
        ModelError, OpLibraryError: ONNX Runtime cannot load the model or a library.
    """
    if len(data) < batch_num:
        raise CalibrationError(
            f"The data has {len(data)} batches, the calibration model needs batch_num = {batch_num}.",
            hint="Give more data, or set a smaller batch_num.",
            batches=len(data),
            batch_num=batch_num,
        )
    started = time.perf_counter()
    # What ONNX Runtime fuses depends on what is observed; unfused, a range depends on model and data only.
    session = open_session(model_file, op_libraries, optimize=False)
    for done, feed in enumerate(data, 1):
        try:
            session.run(None, feed)
        except Exception as error:  # ONNX Runtime's exception types are private to its binding
            raise _explain(str(error), done) from error
        if progress is not None:
            progress(ProgressEvent("calibrate", done, batch_num))
        if done == batch_num:
            break
    return CalibrationReport(batch_num, time.perf_counter() - started)


def _explain(text: str, batch: int) -> CalibrationError | DataError:
    """Cut ONNX Runtime's frame off a node's own words."""
    found = re.search(r"running (\w+) node\. Name:'(.*?)' Status Message: (.*)", text, re.DOTALL)
    if found and found[1] in {"IFMR", "HFMG", "Observe", "DUMP"}:
        message, _, hint = found[3].strip().partition(" Hint: ")
        return CalibrationError(
            f"Calibration failed in batch {batch}: {message}", hint=hint or None, node=found[2], batch=batch
        )
    return DataError(
        f"ONNX Runtime could not run batch {batch}: {text.splitlines()[0] if text else 'no reason given'}",
        hint="Check that the data has the shape and meaning the model expects.",
        batch=batch,
    )
