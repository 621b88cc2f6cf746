"""Ask ONNX Runtime what it made of a QDQ model: the optimized graph tells which layers are int8 kernels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from ort_quant_plugin.errors import ModelError
from ort_quant_plugin.ops.library import first_line, onnxruntime_module, register_op_library

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["executed_operators", "float_layers"]

_INT8_KERNELS = frozenset(
    {"QLinearConv", "QLinearMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearAveragePool", "QLinearAdd"}
)


def executed_operators(path: Path, op_libraries: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(node name, operator) of the graph ONNX Runtime executes on this machine's CPU.

    Quantized operators are fused at the *extended* level; the last level only re-arranges memory.
    """
    ort = onnxruntime_module()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4  # it warns about every saved optimized model; failures are raised as well
    for library in op_libraries:
        register_op_library(options, library)
    with tempfile.TemporaryDirectory(prefix="ort-quant-") as folder:
        target = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        try:
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exception types are private to its binding
            raise ModelError(
                f"ONNX Runtime {ort.__version__} cannot load the QDQ model: {first_line(error)}",
                hint="Skip the layer it names (skip_layers), or write other targets only (targets=…, --target).",
                path=str(path),
            ) from error
        return [(str(node.name), node.op_type) for node in ir.load(target).graph]


def float_layers(path: Path, names: Sequence[str], op_libraries: Sequence[str] = ()) -> dict[str, str]:
    """Layers of ``names`` that are no int8 kernel in the optimized graph, with the operator found instead."""
    found = dict(executed_operators(path, op_libraries))
    return {
        name: found.get(name, "part of an operator of another name")
        for name in names
        if found.get(name) not in _INT8_KERNELS
    }
