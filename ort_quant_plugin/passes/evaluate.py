"""Compute one node with ONNX's reference implementation.

Only operators of :data:`FOLDABLE` are computed: deterministic, without state or bodies, and checked in the tests to
give what ONNX Runtime gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.model import Array

__all__ = ["FOLDABLE", "evaluate"]

_MOVEMENT = (
    "Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Pad Reshape ScatterElements ScatterND "
    "Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze Where"
)
_ELEMENTWISE = (
    "Abs Add And Cast CastLike Ceil Clip Cos Div Equal Erf Exp Floor Greater GreaterOrEqual Less LessOrEqual Log Max "
    "Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Sigmoid Sign Sin Sqrt Sub Tanh Xor"
)
_OTHERS = "ConstantOfShape CumSum MatMul Range ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Shape Size"

FOLDABLE = frozenset(f"{_MOVEMENT} {_ELEMENTWISE} {_OTHERS}".split())
"""Operators of the default domain that may be computed offline."""


def evaluate(node: ir.Node, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    """Outputs of ``node`` for these inputs (``None`` = optional input left out).

    Raises:
        ValueError: The reference implementation cannot compute it; the message is its reason.
    """
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    proto = ir.to_proto(node)
    names = [f"input_{i}" if array is not None else "" for i, array in enumerate(inputs)]
    outputs = [f"output_{i}" if v.name else "" for i, v in enumerate(node.outputs)]
    del proto.input[:], proto.output[:]
    proto.input.extend(names)
    proto.output.extend(outputs)
    graph = onnx.GraphProto(
        name=node.op_type,
        node=[proto],
        input=[onnx.ValueInfoProto(name=name) for name in names if name],
        output=[onnx.ValueInfoProto(name=name) for name in outputs if name],
    )
    feeds = {name: array for name, array in zip(names, inputs, strict=True) if name}
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(graph, opsets={"": opset}).run(None, feeds)
    except Exception as error:  # numpy raises anything for inputs it cannot combine
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return [np.asarray(result, order="C") for result in cast("list[Array]", results)]
