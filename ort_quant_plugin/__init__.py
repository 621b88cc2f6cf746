"""Post-training quantization for ONNX Runtime: calibrate inside the runtime, write int8 models.

``import ort_quant_plugin as amct`` is the migration from AMCT for ONNX. Importing this package loads neither
onnx nor onnxruntime; the names below fetch what they need when they are used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import OrtQuantError
from ort_quant_plugin.logs import configure_logging

if TYPE_CHECKING:
    from ort_quant_plugin.api import (
        calibrate,
        create_quant_config,
        inspect,
        lower_model,
        prepare_model,
        quantize,
        quantize_model,
        save_model,
        write_ranges,
    )
    from ort_quant_plugin.calibration.data import ImagePreprocess, open_data
    from ort_quant_plugin.calibration.ranges import ranges
    from ort_quant_plugin.comparison import compare
    from ort_quant_plugin.ops.library import get_library_path, register_custom_ops, session_options
    from ort_quant_plugin.plugins import hookimpl
    from ort_quant_plugin.report import QuantizationReport

__all__ = [
    # AMCT's four steps
    "create_quant_config",
    "quantize_model",
    "session_options",
    "save_model",
    # everything at once, and one step at a time
    "quantize",
    "prepare_model",
    "calibrate",
    "write_ranges",
    "ranges",
    "compare",
    "inspect",
    "lower_model",
    # data
    "ImagePreprocess",
    "open_data",
    # the op library in any session
    "register_custom_ops",
    "get_library_path",
    # plugins, results, errors
    "hookimpl",
    "QuantizationReport",
    "OrtQuantError",
    "__version__",
]

_HOMES = {
    "calibrate": "api",
    "compare": "comparison",
    "create_quant_config": "api",
    "get_library_path": "ops.library",
    "hookimpl": "plugins",
    "ImagePreprocess": "calibration.data",
    "inspect": "api",
    "lower_model": "api",
    "open_data": "calibration.data",
    "prepare_model": "api",
    "quantize": "api",
    "QuantizationReport": "report",
    "quantize_model": "api",
    "register_custom_ops": "ops.library",
    "ranges": "calibration.ranges",
    "save_model": "api",
    "session_options": "ops.library",
    "write_ranges": "api",
}

try:
    configure_logging()
except OrtQuantError as _error:
    # The command line has no chance to report what happens before its own code is reached ("-m" while runpy looks).
    if sys.argv and sys.argv[0].rpartition("/")[2] in {"ort-quant", "ort-quant-plugin", "-m"}:
        sys.stderr.write(f"error: {_error.message}\nhint: {_error.hint}\n")
        sys.exit(2)
    raise


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("ort-quant-plugin")
        except PackageNotFoundError:  # run from a source tree that is not installed
            return "0+unknown"
    if name == "AMCT_SO":
        # AMCT shares one SessionOptions object; a fresh one each time cannot be changed behind a user's back.
        return __getattr__("session_options")()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "AMCT_SO", "__version__"])
