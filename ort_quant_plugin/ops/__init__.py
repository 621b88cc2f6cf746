"""The custom operators: finding and registering the library, and their numpy reference."""

from __future__ import annotations

from ort_quant_plugin.ops.library import (
    DOMAIN,
    get_library_path,
    onnxruntime_module,
    register_custom_ops,
    session_options,
)

__all__ = ["DOMAIN", "get_library_path", "onnxruntime_module", "register_custom_ops", "session_options"]
