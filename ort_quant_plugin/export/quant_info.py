"""``<prefix>_quant.json``: which original nodes each node of the quantized models stands for.

The layout is the protobuf-json form of GE's ``FusionInfo``; accuracy tools use it to pair layers
of the original and of the quantized model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

    from ort_quant_plugin.export.plan import Plan

__all__ = ["quant_info"]


def quant_info(model: ir.Model, plan: Plan, name: str) -> str:
    """JSON text for a quantized model (fake-quant or deploy: both have the same nodes).

    Args:
        model: The exported model.
        plan: What was quantized.
        name: The save prefix.
    """
    operators = [_operator(node, plan) for node in model.graph]
    return json.dumps({"name": name, "graph": [{"op": operators}]}, indent=2) + "\n"


def _operator(node: ir.Node, plan: Plan) -> dict[str, Any]:
    name = str(node.name)
    entry: dict[str, Any] = {"name": name, "type": node.op_type}
    layer, _, suffix = name.rpartition(".")
    if name in plan.layers or name in plan.fused:
        entry["attr"] = [_names(_originals(name, plan))]
    elif suffix == "quant":
        entry["attr"] = [_names([])]
    elif suffix == "dequant" and layer in plan.layers:
        originals = _originals(layer, plan)
        entry["attr"] = [_names(originals)]
        entry["output_desc"] = [
            {
                "attr": [
                    {"key": "_datadump_origin_format", "value": {"s": "NCHW"}},
                    {"key": "_datadump_data_type", "value": {"s": "DT_FLOAT"}},
                    {"key": "_datadump_origin_output_index", "value": {"i": 0}},
                    {"key": "_datadump_origin_name", "value": {"s": originals[-1]}},
                ]
            }
        ]
    return entry


def _originals(name: str, plan: Plan) -> list[str]:
    return plan.fused.get(name) or [name]


def _names(originals: list[str]) -> dict[str, Any]:
    return {"key": "_datadump_original_op_names", "value": {"list": {"s": originals, "val_type": 1}}}
