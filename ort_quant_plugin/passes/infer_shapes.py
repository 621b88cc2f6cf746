"""Fill in types and shapes with ONNX's shape inference.

Dimensions that exporters write as -1, ``?`` or an empty symbol mean "unknown" and are made so first: -1 would be
propagated as a number, and two ``?`` would be taken for equal. Shapes that the file declares for intermediate values
are used only where inference knows nothing: they go stale when somebody frees the batch dimension by hand.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import onnx_ir as ir

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["InferShapes", "infer_shapes"]

_MEANINGLESS = frozenset({"", "?", "*", "None", "-1"})

_MAKE_CONTAINERS = frozenset(
    {
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceInsert",
        "SequenceErase",
        "SplitToSequence",
        "SequenceMap",
        "Optional",
    }
)
_PASS_CONTAINERS = frozenset({"Identity", "If", "Loop", "OptionalGetElement"})


class InferShapes:
    """Infers types and shapes; a failure is reported and leaves the model as it was."""

    name = "infer_shapes"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Clean declared shapes, then infer the others."""
        report = PassReport(self.name)
        for value in _declared(model.graph):
            if _clean(value):
                report.change(value.name, "meaningless dimensions (-1, '?') made unknown")
        unknown = sum(v.shape is None for node in model.graph for v in node.outputs)
        failure = _infer_afresh(model)
        inferred = unknown - sum(v.shape is None for node in model.graph for v in node.outputs)
        if failure:
            report.decline(model.graph.name, f"ONNX shape inference failed: {failure}")
        elif inferred:
            report.change(model.graph.name, f"shapes of {inferred} values inferred")
        return report


def infer_shapes(model: ir.Model) -> str | None:
    """Run ONNX shape inference without the big weights, so that models of any size can be inferred.

    Returns:
        ``None``, or why it failed; shapes are unchanged then.
    """
    from onnx_ir.passes.common import ShapeInferencePass

    _forget_generated(model.graph)
    handler = _Listener()
    logger = logging.getLogger("onnx_ir.passes.common.shape_inference")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
        _forget_containers(model.graph)
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    return handler.failure


def _forget_containers(graph: ir.Graph) -> None:
    """onnx_ir writes sequences and optionals down as tensors; leave their type open instead."""
    containers: set[ir.Value | None] = set()
    for node in graph:
        if node.op_type in _MAKE_CONTAINERS or (node.op_type in _PASS_CONTAINERS and containers & set(node.inputs)):
            containers |= set(node.outputs)
    for value in containers:
        if value is not None and not value.is_graph_output():
            value.type, value.shape = None, None


def _forget_generated(graph: ir.Graph) -> None:
    """Drop the symbols that an earlier inference invented: it would keep them where it can say more by now."""
    for node in graph:
        for value in node.outputs:
            if value.shape is not None and not value.is_graph_output():
                value.shape = ir.Shape([None if _is_generated(d) else d for d in value.shape])


def _is_generated(dim: int | ir.SymbolicDim) -> bool:
    return not isinstance(dim, int) and dim.value is not None and dim.value.startswith("unk__")


def _infer_afresh(model: ir.Model) -> str | None:
    """Infer from inputs and weights alone, then put declared shapes back where nothing was inferred."""
    declared = {v: v.shape for node in model.graph for v in node.outputs if not v.is_graph_output()}
    for value in declared:
        value.shape = None
    failure = infer_shapes(model)
    missing = [(value, shape) for value, shape in declared.items() if value.shape is None and shape is not None]
    for value, shape in missing:
        value.shape = shape
    return failure if failure or not missing else infer_shapes(model)


class _Listener(logging.Handler):
    """onnx_ir reports a failed inference only as a log record."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.failure: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.failure = str(record.exc_info[1]).splitlines()[0]


def _declared(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _clean(value: ir.Value) -> bool:
    if value.shape is None:
        return False
    dims = [None if _is_meaningless(d) else d for d in value.shape]
    if all(new is old or old == ir.SymbolicDim(None) for new, old in zip(dims, value.shape, strict=True)):
        return False
    value.shape = ir.Shape(dims)
    return True


def _is_meaningless(dim: int | ir.SymbolicDim) -> bool:
    if isinstance(dim, int):
        return dim < 0
    return dim.value is not None and dim.value in _MEANINGLESS
