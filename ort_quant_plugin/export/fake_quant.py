"""The simulation model: float tensors that hold integers, so any ONNX Runtime computes int8 arithmetic exactly.

Per layer: ``L.quant`` → L with integer-valued weights and bias → ``L.dequant`` (AMCT's layout). Two forms:

* ``custom``: AscendQuant and AscendDequant of ``amct.customop``;
* ``onnx``: ``Mul → Round → Add → Clip → Sub`` and one ``Mul``; needs no library (opset 11).

Both give the same bits when the runtime does not re-arrange them (optimizations off).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.export.base import Exported, ExportOptions
from ort_quant_plugin.export.opset import raise_opset
from ort_quant_plugin.export.surgery import ONE, GraphEditor, layer_nodes, quant_attributes, set_layer_constants
from ort_quant_plugin.qparams import integer_range, pack_deq_scale

if TYPE_CHECKING:
    from pathlib import Path

    from ort_quant_plugin.export.plan import LayerPlan, Plan
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["FakeQuantExporter"]

_DOMAIN = "amct.customop"
_FP16_DOMAIN = "amct.customop.extfp16"
_ROUND_OPSET = 11


class FakeQuantExporter:
    """Writes ``<prefix>_fake_quant_model.onnx``."""

    name = "fake_quant"
    target = "fake_quant"
    summary = "simulates int8 in float on any ONNX Runtime: for accuracy checks"
    file_suffix = "fake_quant_model.onnx"

    def export(self, model: ir.Model, plan: Plan, options: ExportOptions) -> Exported:
        """See :class:`~ort_quant_plugin.export.base.Exporter`."""
        if options.fake_quant_form == "onnx":
            _refuse_precision_mode(plan)
            model = raise_opset(model, _ROUND_OPSET)
        editor = GraphEditor(model)
        writer: _CustomForm = _OnnxForm(editor) if options.fake_quant_form == "onnx" else _CustomForm(editor)
        nodes = layer_nodes(model)
        for name, numbers in plan.layers.items():
            node = nodes[name]
            tail = nodes[str(numbers.layer.bias_add.name)] if numbers.layer.bias_add is not None else node
            half = numbers.layer.dtype == "FLOAT16"
            writer.precision_mode = numbers.precision_mode
            writer.quantize(node, numbers.layer.activation_index, name, numbers.activation, half=half)
            set_layer_constants(node, tail, numbers, weight_dtype=np.float32, bias_dtype=np.float32)
            if half:
                node.outputs[0].type = tail.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            writer.dequantize(tail.outputs[0], numbers, half=half)
        writer.precision_mode = "DEFAULT"
        for (name, index), params in plan.tensors.items():
            writer.quantize(nodes[name], index, f"{name}.{index}", params, half=False, restore=True)
        notes = []
        if options.fake_quant_form == "onnx" and any(n.layer.dtype == "FLOAT16" for n in plan.layers.values()):
            notes.append(
                "ONNX Runtime merges the Casts around float16 layers of the plain-ONNX form; bits may differ "
                "from the custom form there."
            )
        return Exported(model, "_fakequant.external", notes)

    def verify(self, path: Path, exported: Exported, plan: Plan, options: ExportOptions) -> None:
        """Load the file once: a model that cannot be loaded must not be handed out.

        Raises:
            ModelError: ONNX Runtime refuses it.
        """
        from ort_quant_plugin.ops.library import open_session

        open_session(path, options.op_libraries, optimize=False)


def _refuse_precision_mode(plan: Plan) -> None:
    forced = [name for name, numbers in plan.layers.items() if numbers.precision_mode != "DEFAULT"]
    if forced:
        raise UnsupportedError(
            f"Layer {forced[0]!r} has fakequant_precision_mode {plan.layers[forced[0]].precision_mode!r}, "
            "which standard operators cannot express.",
            hint='Write the fake-quant model with fake_quant_form="custom".',
            layers=forced,
        )


class _CustomForm:
    """AMCT's operators."""

    def __init__(self, editor: GraphEditor) -> None:
        self.editor = editor
        self.precision_mode = "DEFAULT"
        self._quantized: dict[tuple[int, float, int, bool, str], ir.Value] = {}

    def quantize(
        self, node: ir.Node, index: int, name: str, params: QuantParams, *, half: bool, restore: bool = False
    ) -> None:
        """Let ``node`` read the integers of its input; ``restore`` multiplies them back (tensor quantization)."""
        x = node.inputs[index]
        assert x is not None
        key = (id(x), float(params.scale), params.offset, half, self.precision_mode)
        if key in self._quantized and not restore:
            # AMCT merges quantizers of one tensor with equal parameters into the first.
            node.replace_input_with(index, self._quantized[key])
            return
        chain = self._quant_chain(x, name, params, half=half)
        self._quantized.setdefault(key, chain[-1].outputs[0])
        if restore:
            chain.append(self._anti_quant(chain[-1].outputs[0], name, params))
        self.editor.insert_before(node, index, chain)

    def dequantize(self, value: ir.Value, numbers: LayerPlan, *, half: bool) -> None:
        """Multiply the integer accumulator back to real values."""
        chain = self._dequant_chain(value, numbers, half=half)
        self.editor.insert_after(value, chain, rename=f"{numbers.layer.name}_output0")

    def _domain(self, *, half: bool) -> str:
        domain = _FP16_DOMAIN if half else _DOMAIN
        self.editor.model.opset_imports.setdefault(domain, 1)
        return domain

    def _mode(self) -> dict[str, str]:
        return {} if self.precision_mode == "DEFAULT" else {"fakequant_precision_mode": self.precision_mode}

    def _quant_chain(self, x: ir.Value, name: str, params: QuantParams, *, half: bool) -> list[ir.Node]:
        attributes = quant_attributes(params) | self._mode()
        domain = self._domain(half=half)
        return [
            self.editor.node(
                "AscendQuant", f"{name}.quant", [x], ir.DataType.FLOAT, attributes=attributes, domain=domain
            )
        ]

    def _anti_quant(self, x: ir.Value, name: str, params: QuantParams) -> ir.Node:
        attributes = {"scale": float(params.scale)}
        return self.editor.node(
            "AscendAntiQuant", f"{name}.anti_quant", [x], ir.DataType.FLOAT, attributes=attributes, domain=_DOMAIN
        )

    def _dequant_chain(self, x: ir.Value, numbers: LayerPlan, *, half: bool) -> list[ir.Node]:
        name = numbers.layer.name
        scale = self.editor.constant(f"{name}.dequant.param", pack_deq_scale(numbers.deq_scale))
        dtype = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
        return [
            self.editor.node(
                "AscendDequant",
                f"{name}.dequant",
                [x, scale],
                dtype,
                attributes=self._mode(),
                domain=self._domain(half=half),
            )
        ]


class _OnnxForm(_CustomForm):
    """The same arithmetic in standard operators."""

    def _scalar(self, name: str, value: float | np.float32) -> ir.Value:
        return self.editor.constant(name, np.asarray(value, np.float32))

    def _quant_chain(self, x: ir.Value, name: str, params: QuantParams, *, half: bool) -> list[ir.Node]:
        base = f"{name}.quant.fakequant"
        low, high = integer_range(params.num_bits)
        offset = self._scalar(f"{base}.offset", params.offset)
        steps: list[tuple[str, list[ir.Value]]] = [
            ("Mul", [self._scalar(f"{base}.scale", ONE / params.scale)]),
            ("Round", []),
            ("Add", [offset]),
            ("Clip", [self._scalar(f"{base}.min_val", low), self._scalar(f"{base}.max_val", high)]),
            ("Sub", [offset]),
        ]
        chain = [self._cast(x, f"{base}.cast", ir.DataType.FLOAT)] if half else []
        for op, operands in steps:
            source = chain[-1].outputs[0] if chain else x
            chain.append(self.editor.node(op, f"{base}.{op.lower()}", [source, *operands], ir.DataType.FLOAT))
        return chain

    def _cast(self, x: ir.Value, name: str, dtype: ir.DataType) -> ir.Node:
        return self.editor.node("Cast", name, [x], dtype, attributes={"to": int(dtype)})

    def _anti_quant(self, x: ir.Value, name: str, params: QuantParams) -> ir.Node:
        scale = self._scalar(f"{name}.anti_quant.scale", params.scale)
        return self.editor.node("Mul", f"{name}.anti_quant.mul", [x, scale], ir.DataType.FLOAT)

    def _dequant_chain(self, x: ir.Value, numbers: LayerPlan, *, half: bool) -> list[ir.Node]:
        base = f"{numbers.layer.name}.fakedequant"
        scale = numbers.deq_scale
        rank = numbers.integers.ndim if numbers.integers is not None else 4
        if scale.size > 1:
            scale = scale.reshape(1, -1, *([1] * (rank - 2)))
        chain = [
            self.editor.node(
                "Mul", f"{base}.mul", [x, self.editor.constant(f"{base}.dqscale", scale)], ir.DataType.FLOAT
            )
        ]
        if half:
            chain.append(self._cast(chain[0].outputs[0], f"{base}.cast", ir.DataType.FLOAT16))
        return chain
