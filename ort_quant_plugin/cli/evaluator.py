"""AMCT's ``--evaluator``: the user's python file runs the calibration itself."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.calibration.feeders import load_module
from ort_quant_plugin.errors import CalibrationError, DataError, OrtQuantError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.calibration.methods import Storage
    from ort_quant_plugin.report import QuantizationReport

__all__ = ["load_evaluator", "quantize_with_evaluator"]


def load_evaluator(path: str) -> Any:
    """Return the object with a ``calibration(modified_model)`` method that a python file defines.

    Raises:
        DataError: the file cannot be imported, or does not define exactly one such object.
    """
    if not Path(path).is_file():
        raise DataError(f"Evaluator {path} does not exist.", hint="Check the path.", path=path)
    found = {
        id(value): value
        for name, value in vars(load_module(path)).items()
        if not name.startswith("__") and not isinstance(value, type) and callable(getattr(value, "calibration", None))
    }
    if len(found) != 1:
        raise DataError(
            f"Evaluator {path} defines {len(found)} objects with a method calibration(modified_model); expected one.",
            hint="Define a class with that method and one instance of it.",
            path=path,
            value=len(found),
        )
    return next(iter(found.values()))


def quantize_with_evaluator(
    model: str,
    evaluator: str,
    save_path: str,
    *,
    config: str | None,
    batch_num: int | None,
    skip_layers: Sequence[str],
    symmetric: bool,
    targets: Sequence[str],
    storage: Storage,
    force: bool,
    **export_choices: Any,
) -> QuantizationReport:
    """AMCT's four steps with the user's own calibration loop between the second and the last.

    Raises:
        OrtQuantError: a leaf that names what is wrong; nothing is written then.
    """
    from ort_quant_plugin import api
    from ort_quant_plugin.export.write import output_paths, select_exporters, split_save_path
    from ort_quant_plugin.files import write_text
    from ort_quant_plugin.model import refuse_existing
    from ort_quant_plugin.plugins import build_plugin_manager
    from ort_quant_plugin.report import QuantizationReport

    exporters = select_exporters(build_plugin_manager().exporters(), targets)
    parent, prefix = split_save_path(save_path)
    record_path = parent / f"{prefix}_record.txt"
    refuse_existing([*output_paths(save_path, exporters).values(), record_path], force=force)
    user = load_evaluator(evaluator)
    libraries = export_choices.get("op_libraries", ())
    with tempfile.TemporaryDirectory(prefix="ort-quant-") as folder:
        modified, record = f"{folder}/modified.onnx", f"{folder}/record.txt"
        if config is not None and config.endswith(".json"):
            config_file = config
        else:
            config_file = f"{folder}/config.json"
            api.create_quant_config(
                config_file,
                model,
                skip_layers=list(skip_layers),
                batch_num=batch_num or 1,
                activation_offset=not symmetric,
                config_defination=config,
                op_libraries=libraries,
            )
        api.quantize_model(config_file, model, modified, record, storage=storage, op_libraries=libraries)
        _run(user, modified, evaluator)
        report = api.save_model(modified, record, save_path, targets=targets, **export_choices)
        write_text(record_path, Path(record).read_text(encoding="utf-8"))
    return QuantizationReport(report.outputs, report.layers, report.notes, record=record_path)


def _run(user: Any, modified: str, evaluator: str) -> None:
    folder = str(Path(evaluator).resolve().parent)
    sys.path.insert(0, folder)  # as `python evaluator.py` would: the loop may import its neighbours late
    try:
        user.calibration(os.fspath(modified))
    except OrtQuantError:
        raise
    except Exception as error:
        raise CalibrationError(
            f"The evaluator {evaluator} failed: {type(error).__name__}: {error}.",
            hint="Run it alone to find the mistake; sessions need ort_quant_plugin.session_options().",
            path=evaluator,
        ) from error
    finally:
        sys.path.remove(folder)
