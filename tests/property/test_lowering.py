"""Random nets of layers, element-wise operators and data movement, lowered: always the bits of the float form."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.lowering import lower
from ort_quant_plugin.model import write_model
from ort_quant_plugin.qparams import pack_deq_scale

_FLOAT = ir.TensorType(ir.DataType.FLOAT)
_SCALES = (0.5, 4.0, 9.25, 33.0)
_OFFSETS = (-128, -20, 0, 7, 127)


class RandomNet:
    """Grows a deploy graph and its float form side by side: same nodes, integers as int8/int32 or as float."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[tuple[str, list[str], list[str], dict[str, object]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {"x": (2, 4, 6, 8)}
        self.count = 0
        self.blocks = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def pick(self, *, rank: int | None = 4) -> str:
        """One of the younger tensors."""
        fitting = [name for name, shape in self.shapes.items() if rank is None or len(shape) == rank]
        return fitting[-1 - min(int(self.rng.exponential(0.8)), len(fitting) - 1)]

    def constant(self, array: np.ndarray) -> str:
        name = self.name("k")
        self.constants[name] = array
        return name

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> str:
        output = self.name(op.lower())
        self.nodes.append((op, inputs, [output], attributes))
        self.shapes[output] = shape
        return output

    def code(self) -> dict[str, object]:
        return {
            "scale": float(self.rng.choice(_SCALES)),
            "offset": float(self.rng.choice(_OFFSETS)),
            "dst_type": "INT8",
        }

    def quantize(self, x: str) -> tuple[str, dict[str, object]]:
        code, output = self.code(), self.name("q")
        self.nodes.append(("AscendQuant", [x], [output], code))
        return output, code

    def dequantize(self, accumulator: str, shape: tuple[int, ...], channels: int) -> str:
        del self.shapes[accumulator]  # integers, for nobody else
        deq = self.rng.uniform(1e-4, 2e-3, channels).astype(np.float32)
        return self.add("AscendDequant", [accumulator, self.constant(pack_deq_scale(deq))], shape)

    # ---- what can be added

    def conv(self) -> None:
        size, depthwise = int(self.rng.choice([1, 3])), bool(self.rng.integers(0, 3) == 0)
        self.layer(self.pick(), None if depthwise else int(self.rng.choice([4, 8, 5])), size)

    def layer(self, x: str, m: int | None, size: int) -> str:
        """A convolution to `m` channels; None: depthwise."""
        n, c, h, w = self.shapes[x]
        depthwise, m = m is None, c if m is None else m
        weight = self.rng.integers(-128, 128, (m, 1 if depthwise else c, size, size)).astype(np.int8)
        bias = self.rng.integers(-5000, 5000, m).astype(np.int32)
        q, _ = self.quantize(x)
        attributes = {"pads": [size // 2] * 4, "group": c if depthwise else 1, "kernel_shape": [size, size]}
        shape = (n, m, h, w)
        acc = self.add("Conv", [q, self.constant(weight), self.constant(bias)], shape, **attributes)
        return self.dequantize(acc, shape, m)

    def block(self) -> None:
        """Expansion, depthwise convolution and projection; nobody else reads what lies between."""
        value, inner = self.pick(), []
        for m, size in ((24, 1), (None, 3), (8, 1)):
            made = self.layer(value, m, size)
            value = self.add(str(self.rng.choice(["Relu", "LeakyRelu"])), [made], self.shapes[made])
            inner += [made, value]
        for name in inner[:-1]:
            del self.shapes[name]
        self.blocks += 1

    def unary(self) -> None:
        x = self.pick()
        op = str(self.rng.choice(["Relu", "Sigmoid", "LeakyRelu", "HardSigmoid", "Identity"]))
        self.add(op, [x], self.shapes[x])

    def clip(self) -> None:
        x = self.pick()
        self.add("Clip", [x, self.constant(np.float32(-1)), self.constant(np.float32(3))], self.shapes[x])

    def arithmetic(self) -> None:
        x = self.pick(rank=None)
        shape = self.shapes[x]
        op = str(self.rng.choice(["Add", "Mul", "Sub"]))
        same = [name for name, other in self.shapes.items() if other == shape and name != x]
        kind = int(self.rng.integers(0, 4))
        if kind < 2 and same:
            other = str(self.rng.choice(same))
        elif kind == 2 and len(shape) == 4:
            other = self.constant(self.rng.normal(size=(shape[1], 1, 1)).astype(np.float32))
        else:
            other = self.constant(np.float32(self.rng.normal()))
        inputs = [x, other] if self.rng.integers(0, 2) else [other, x]
        self.add(op, inputs, shape)

    def concat(self) -> None:
        x = self.pick()
        n, c, h, w = self.shapes[x]
        fitting = [k for k, s in self.shapes.items() if len(s) == 4 and (s[0], *s[2:]) == (n, h, w) and s[1] + c < 40]
        if fitting:
            other = str(self.rng.choice(fitting))
            self.add("Concat", [x, other], (n, c + self.shapes[other][1], h, w), axis=1)

    def split(self) -> None:
        x = self.pick()
        n, c, h, w = self.shapes[x]
        if c > 2:
            outputs, cut = [self.name("s"), self.name("s")], c // 2
            sizes = self.constant(np.array([cut, c - cut]))
            self.nodes.append(("Split", [x, sizes], outputs, {"axis": 1}))
            self.shapes[outputs[0]], self.shapes[outputs[1]] = (n, cut, h, w), (n, c - cut, h, w)

    def pool(self) -> None:
        x = self.pick()
        self.add("MaxPool", [x], self.shapes[x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def average(self) -> None:
        x = self.pick()
        q, _ = self.quantize(x)
        shape = self.shapes[x]
        acc = self.add("AveragePool", [q], shape, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        self.dequantize(acc, shape, 1)

    def transpose(self) -> None:
        x = self.pick()
        shape = self.shapes[x]
        perm = [0, *(1 + self.rng.permutation(3))]
        perm = [int(axis) for axis in perm]
        self.add("Transpose", [x], tuple(shape[axis] for axis in perm), perm=perm)

    def reshape(self) -> None:
        x = self.pick()
        n, c, h, w = self.shapes[x]
        if w % 2 == 0:
            self.add("Reshape", [x, self.constant(np.array([0, -1, h, w // 2]))], (n, 2 * c, h, w // 2))

    def there_and_back(self) -> str:
        x = self.pick()
        q, code = self.quantize(x)
        scale = float(np.float32(1) / np.float32(code["scale"]))  # type: ignore[arg-type]
        return self.add("AscendAntiQuant", [q], self.shapes[x], scale=scale, offset=code["offset"])

    def quantized_sum(self) -> None:
        a = self.there_and_back()
        b = self.there_and_back()
        if self.shapes[a] == self.shapes[b]:
            self.add("Add", [a, b], self.shapes[a])

    def gemm(self) -> None:
        x = self.pick()
        n, c, h, w = self.shapes[x]
        flat = self.add("Flatten", [x], (n, c * h * w), axis=1)
        q, _ = self.quantize(flat)
        weight = self.rng.integers(-20, 20, (c * h * w, 3)).astype(np.int8)
        bias = self.rng.integers(-5000, 5000, 3).astype(np.int32)
        acc = self.add("Gemm", [q, self.constant(weight), self.constant(bias)], (n, 3))
        self.dequantize(acc, (n, 3), 3)

    MOVES = (conv, conv, conv, conv, block, unary, unary, clip, arithmetic, arithmetic, concat, split, pool, average)
    MOVES += (transpose, reshape, there_and_back, quantized_sum, gemm, unary, clip, arithmetic)

    def grow(self, steps: int) -> None:
        for _ in range(steps):
            self.MOVES[int(self.rng.integers(len(self.MOVES)))](self)

    def model(self, *, integers: bool) -> ir.Model:
        """The deploy graph, or its float form; unread tensors and a few others are graph outputs."""
        values = {"x": ir.val("x", dtype=ir.DataType.FLOAT, shape=("N", *self.shapes["x"][1:]))}
        constants = []
        for name, array in self.constants.items():
            stored = (
                array
                if integers or array.dtype not in {np.dtype(np.int8), np.dtype(np.int32)}
                else array.astype(np.float32)
            )
            values[name] = ir.val(name, const_value=ir.tensor(stored, name=name))
            constants.append(values[name])
        nodes = []
        for op, inputs, outputs, attributes in self.nodes:
            made = [ir.val(name) for name in outputs]
            values.update(zip(outputs, made, strict=True))
            domain = "" if integers or not op.startswith("Ascend") else "amct.customop"
            nodes.append(
                ir.node(
                    op, [values[i] for i in inputs], attributes, domain=domain, outputs=made, name=f"node_{outputs[0]}"
                )
            )
        outputs = [values[name] for name in self.shapes if name != "x" and not values[name].uses()]
        extra = [name for i, name in enumerate(self.shapes) if i % 7 == 3 and name != "x" and values[name].uses()]
        outputs += [values[name] for name in extra]
        for value in outputs:
            value.type, value.shape = _FLOAT, ir.Shape(["N", *self.shapes[str(value.name)][1:]])
        opsets = {"": 13, "amct.customop": 1}
        graph = ir.Graph([values["x"]], outputs, nodes=nodes, initializers=constants, opset_imports=opsets, name="net")
        return ir.Model(graph, ir_version=8)


@pytest.mark.parametrize("seed", range(20))
def test_random_nets(seed, tmp_path, run_model):
    net = RandomNet(seed)
    net.grow(11)
    net.block()
    net.grow(11)
    deploy = net.model(integers=True)
    layers = Counter(node.op_type for node in deploy.graph)["AscendDequant"]
    report = lower(deploy)
    assert len(report.int8) >= layers
    assert report.stayed_float == {}
    assert report.operators.get("QConvChain", 0) >= net.blocks
    write_model(net.model(integers=False), tmp_path / "float.onnx")
    write_model(deploy, tmp_path / "lowered.onnx")
    feed = {"x": np.random.default_rng(seed).normal(0, 3, net.shapes["x"]).astype(np.float32)}
    expected = run_model(tmp_path / "float.onnx", feed)
    found = run_model(tmp_path / "lowered.onnx", feed, threads=1 + seed % 2)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name].view(np.uint8), array.view(np.uint8), name)
