"""Random nodes of every operator of our libraries through ONNX Runtime: each must run or be refused, none may crash.

``python tests/fuzz/fuzz_ops.py --seconds 600 [--seed N]``: cases run in child processes, which have little memory
beyond what they start with. A case is a valid node, or one changed at random: attributes, shapes, element types,
inputs and outputs. A child that dies or hangs is reported with the case that did it, and the exit code is 1;
``--case N`` runs that case alone.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CASES_PER_CHILD = 400
SPARE_MEMORY = 512 << 20
HANG_SECONDS = 120

DTYPES = [np.uint8, np.int8, np.float32, np.float16, np.int32, np.int64, np.uint64, np.bool_, np.float64]
INTS = [
    0,
    1,
    -1,
    2,
    3,
    5,
    127,
    128,
    -128,
    -129,
    1000,
    2**24,
    2**24 + 1,
    2**31 - 1,
    2**31,
    -(2**31),
    2**63 - 1,
    -(2**63),
]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-30, 3e38, float("inf"), float("-inf"), float("nan")]
WORDS = [
    "",
    " ",
    "max",
    "average",
    "same",
    "channels_first",
    "SAME_UPPER",
    "VALID",
    "INT8",
    "data",
    "sketch",
    "π",
    "a" * 9999,
]
STEPS = [
    "add",
    "sub",
    "mul",
    "div",
    "clip",
    "relu",
    "leaky_relu",
    "hard_sigmoid",
    "0",
    "1",
    "2",
    "99",
    "-1",
    "r0",
    "r1",
    "r2",
]
STEPS += [
    "c0",
    "c1",
    "c9",
    "c",
    "r",
    "0.5",
    "1e999",
    "nan",
    "-inf",
    "inf",
    ";",
    ";;",
    "",
    "18446744073709551616",
    "0x1p3",
    "…",
]


@dataclass
class Node:
    """One node in the making."""

    domain: str
    op: str
    inputs: list[np.ndarray | None]
    constant: set[int]
    attributes: dict[str, Any]
    outputs: list[ir.DataType | None] = field(default_factory=lambda: [ir.DataType.UINT8])
    quantized: bool = False  # input 0 is float and goes through an AscendQuant first


def array(rng: random.Random, dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Any bit pattern of `dtype`; most floats are harmless."""
    bits = np.frombuffer(rng.randbytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), np.uint8)
    if np.dtype(dtype) == np.bool_:
        return (bits % 2).astype(np.bool_).reshape(shape)
    if np.dtype(dtype).kind == "f" and rng.random() < 0.9:
        return np.random.default_rng(rng.getrandbits(32)).uniform(0.1, 2, shape).astype(dtype)
    return bits.view(dtype).reshape(shape)


def epilogue(rng: random.Random) -> str:
    return rng.choice(
        ["", "relu 0", "clip 0 0 6.0", "add 0 r0;clip 1 -1.0 1.0", "mul 0 c0;add 1 r1", "leaky_relu 0 0.1"]
    )


def ends(rng: random.Random, node: Node, channels: int, shape: Sequence[int]) -> None:
    """The attributes, inputs and outputs that the quantized layers share."""
    node.inputs += [array(rng, np.float32, s) for s in ((2, channels), shape, shape)]
    node.attributes |= {"epilogue": epilogue(rng), "y_scale": 3.5, "y_offset": 7, "y2_scale": 1.0, "y2_offset": -1}
    node.attributes["float_layout"] = rng.choice(["channels_last", "channels_first"])
    types = [ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8]
    node.outputs = [t if rng.random() < 0.6 else None for t in types]
    if not any(node.outputs):
        node.outputs = types[:1]


def q_conv(rng: random.Random) -> Node:
    rank, group = rng.randint(1, 3), rng.choice([1, 1, 2, 8])
    per, out, kernel = rng.randint(1, 9), rng.randint(1, 20), [rng.randint(1, 3) for _ in range(rank)]
    spatial = [rng.randint(5, 7) for _ in range(rank)]
    strides, dilations = [rng.randint(1, 3) for _ in kernel], [rng.randint(1, 2) for _ in kernel]
    pads = [rng.randint(0, 3) for _ in kernel] * 2
    sizes = [
        (s + 2 * p - (k - 1) * d - 1) // stride + 1
        for s, p, k, d, stride in zip(spatial, pads, kernel, dilations, strides, strict=False)
    ]
    x = array(rng, np.uint8, (rng.randint(0, 2), *spatial, group * per))
    w = array(rng, np.int8, (group * out, per, *kernel))
    layer = [x, w, array(rng, np.float32, (group * out,)), array(rng, np.int32, (group * out,))]
    attributes = {"group": group, "x_offset": rng.randint(-128, 127), "kernel_shape": kernel}
    attributes |= {"strides": strides, "dilations": dilations, "pads": pads}
    node = Node("ort_quant", "QConv", layer, {1, 2, 3, 4}, attributes)
    ends(rng, node, group * out, (x.shape[0], *sizes, group * out))
    return node


def q_conv_chain(rng: random.Random) -> Node:
    """Convolutions one after the other; some maps are too large to be computed at once."""
    count, large = rng.randint(2, 3), rng.random() < 0.1
    sizes = [rng.randint(50, 60) if large else rng.randint(5, 9) for _ in range(2)]
    x = array(rng, np.uint8, (rng.randint(0, 2), *sizes, rng.randint(1, 9)))
    node, channels = Node("ort_quant", "QConvChain", [x], set(range(1, 13)), {}), x.shape[-1]
    for stage in range(count):
        depthwise = rng.random() < 0.5
        out = channels if depthwise else rng.choice([160] if large and stage == 0 else [1, 5, 8, 20])
        kernel, strides, pads = rng.choice([[1, 1], [3, 3], [2, 3]]), [rng.randint(1, 2)] * 2, [rng.randint(0, 2)] * 2
        if any(s + 2 * p < k for s, p, k in zip(sizes, pads, kernel, strict=True)):
            kernel = [1, 1]
        w = array(rng, np.int8, (out, 1 if depthwise else channels, *kernel))
        node.inputs += [w, array(rng, np.float32, (out,)), rng.choice([None, array(rng, np.int32, (out,))]), None]
        attributes = {"group": channels if depthwise else 1, "x_offset": rng.randint(-128, 127)}
        attributes |= {"strides": strides, "pads": pads * 2, "dilations": [1, 1]}
        attributes |= {"y_scale": 0.01, "y_offset": -3, "epilogue": rng.choice(["", "relu 0", "clip 0 0 6.0"])}
        node.attributes |= {f"stage{stage}_{name}": value for name, value in attributes.items()}
        channels = out
        sizes = [(s + 2 * p - k) // stride + 1 for s, p, k, stride in zip(sizes, pads, kernel, strides, strict=True)]
    last = Node("", "", [], set(), {})
    ends(rng, last, channels, (x.shape[0], *sizes, channels))
    last.attributes["float_layout"] = "channels_last"
    node.inputs[-1] = last.inputs[0]
    node.inputs += [None] * (13 - len(node.inputs)) + last.inputs[1:]
    node.attributes |= {f"stage{count - 1}_{name}": value for name, value in last.attributes.items()}
    node.outputs = last.outputs
    return node


def q_conv_transpose(rng: random.Random) -> Node:
    like = q_conv(rng)
    x, w = like.inputs[:2]
    group, strides, dilations = (like.attributes[k] for k in ("group", "strides", "dilations"))
    per, kernel, extra = w.shape[0] // group, w.shape[2:], [rng.randint(0, s - 1) for s in strides]
    sizes = [
        (s - 1) * stride + (k - 1) * d + 1 + e
        for s, stride, k, d, e in zip(x.shape[1:-1], strides, kernel, dilations, extra, strict=True)
    ]
    layer = [x, array(rng, np.int8, (x.shape[-1], per, *kernel)), *like.inputs[2:4]]
    attributes = {**like.attributes, "pads": [0] * (2 * len(kernel)), "output_padding": extra}
    if rng.random() < 0.3:
        attributes["output_shape"] = sizes
    node = Node("ort_quant", "QConvTranspose", layer, {1, 2, 3, 4}, attributes)
    ends(rng, node, group * per, (x.shape[0], *sizes, group * per))
    return node


def q_gemm(rng: random.Random) -> Node:
    k, n, rows = rng.randint(1, 70), rng.randint(1, 40), [rng.randint(0, 5) for _ in range(rng.randint(0, 3))]
    layer = [array(rng, np.uint8, (*rows, k)), array(rng, np.int8, (k, n)), array(rng, np.float32, (n,))]
    node = Node("ort_quant", "QGemm", [*layer, array(rng, np.int32, (n,))], {1, 2, 3, 4}, {"x_offset": 3})
    ends(rng, node, n, (*rows, n))
    return node


def q_pool(rng: random.Random) -> Node:
    mode, rank, channels = rng.choice(["max", "average", "global_average"]), rng.randint(1, 3), rng.randint(1, 70)
    spatial, kernel = [rng.randint(3, 7) for _ in range(rank)], [rng.randint(1, 3) for _ in range(rank)]
    strides, pads = [rng.randint(1, 3) for _ in kernel], [rng.randint(0, k - 1) for k in kernel] * 2
    x = array(rng, np.uint8, (rng.randint(0, 2), *spatial, channels))
    attributes = {"mode": mode, "kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": 0}
    node = Node("ort_quant", "QPool", [x], {1, 2}, attributes)
    if mode != "max":
        node.inputs.append(array(rng, np.float32, (1,)))
        sizes = [
            1 if mode == "global_average" else (s + 2 * p - k) // stride + 1
            for s, p, k, stride in zip(spatial, pads, kernel, strides, strict=False)
        ]
        ends(rng, node, channels, (x.shape[0], *sizes, channels))
    return node


def q_add(rng: random.Random) -> Node:
    shape = [rng.randint(0, 9) for _ in range(rng.randint(0, 4))] + [rng.randint(1, 70)]
    scales = {"a_scale": 0.5, "b_scale": 0.25, "a_offset": -3, "b_offset": 100}
    node = Node("ort_quant", "QAdd", [array(rng, np.uint8, shape), array(rng, np.uint8, shape)], {2}, scales)
    ends(rng, node, shape[-1], shape)
    return node


def layout(rng: random.Random) -> Node:
    quantize, name = rng.random() < 0.5, rng.choice(["same", "channels_first"])
    shape = [rng.randint(0, 9) for _ in range(rng.randint(0 if name == "same" else 3, 5))]
    attributes = {"scale": 0.5, "offset": rng.randint(-128, 127), "layout": name}
    op, dtype = ("QuantizeLayout", np.float32) if quantize else ("DequantizeLayout", np.uint8)
    out = ir.DataType.UINT8 if quantize else ir.DataType.FLOAT
    return Node("ort_quant", op, [array(rng, dtype, shape)], set(), attributes, [out])


def shape_of(rng: random.Random) -> list[int]:
    return [rng.randint(0, 9) for _ in range(rng.randint(0, 5))]


def observe(rng: random.Random) -> Node:
    shape = [*shape_of(rng), 3]
    inputs = [array(rng, rng.choice([np.float32, np.float16]), shape), np.array([True])]
    return Node("ort_quant", "Observe", inputs, set(), {"key": "k", "axis": rng.randint(-len(shape), len(shape) - 1)})


FLAVOURS = [
    ("amct.customop", op, dtype, out)
    for op in ("AscendQuant", "AscendDequant", "AscendAntiQuant", "Quant", "Dequant")
    for dtype, out in ((np.float32, ir.DataType.FLOAT), (np.float16, ir.DataType.FLOAT16))
]
FLAVOURS += [
    ("amct.customop.extfp16", "AscendQuant", np.float16, ir.DataType.FLOAT),
    ("amct.customop.extfp16", "AscendDequant", np.float32, ir.DataType.FLOAT16),
    ("amct.customop.extint8", "AscendQuant", np.float32, ir.DataType.INT8),
]


def ascend(rng: random.Random) -> Node:
    domain, op, dtype, out = rng.choice(FLAVOURS)
    shape = [*shape_of(rng), rng.randint(1, 9)]
    inputs = [array(rng, dtype, shape)]
    if op == "AscendDequant":
        inputs.append(array(rng, np.float32, (shape[-1],)).view(np.uint32).astype(np.uint64))
    elif op == "Dequant":
        inputs += [np.zeros(shape[-1], np.float32), array(rng, np.float32, (shape[-1],))]
    offset = 3 if op == "Quant" else 3.0
    attributes = {"scale": 0.5, "offset": offset, "quant_bit": 8, "clip_mode": rng.choice([16, 32]), "axis": -1}
    return Node(domain, op, inputs, set(), attributes, [out])


RECORD = 'record {\n  key: "a"\n  value {\n    scale_w: 0.5\n    offset_w: 0\n  }\n}\n'


def calibration(rng: random.Random) -> Node:
    op = rng.choice(["IFMR", "HFMG", "SearchN", "SearchNv2", "DMQBalancer"])
    shape = [rng.randint(1, 9), *shape_of(rng)]
    inputs = [array(rng, np.float32, shape)]
    if op.startswith("SearchN"):
        inputs += [array(rng, np.float32, (1,)), array(rng, np.float32, (shape[0],))]
    elif op == "DMQBalancer":
        inputs.append(array(rng, np.float32, shape))
    with open("record.txt", "w", encoding="ascii") as file:  # noqa: PTH123  (in the child's own folder)
        file.write(RECORD)
    attributes = {
        "record_file_path": "record.txt",
        "object_layer0": "a",
        "object_layer": "a",
        "layer_num": 1,
        "batch_num": rng.randint(1, 2),
        "num_bits": 8,
        "storage": rng.choice(["exact", "sketch"]),
        "nbins": 64,
        "need_dump": rng.randint(0, 1),
        "dump_dir": ".",
        "migration_strength": 0.5,
    }
    return Node("amct.customop", op, inputs, set(), attributes, [ir.DataType.FLOAT] if op in ("IFMR", "HFMG") else [])


WINDOW = ("group", "kernel_shape", "strides", "pads", "dilations", "output_padding", "output_shape")


def deploy(rng: random.Random) -> Node:
    """A node of the library for untouched deploy models: a quantizer, or an int8 layer behind one."""
    like = rng.choice([q_conv, q_conv_transpose, q_gemm, q_pool, ascend])(rng)
    if like.op in ("Quant", "Dequant") or like.domain == "amct.customop.extfp16":
        return deploy(rng)
    if like.domain != "ort_quant":
        like.domain = ""
        if like.op == "AscendQuant":
            like.outputs = [ir.DataType.INT8]
        elif like.op == "AscendDequant":
            like.inputs[0], like.outputs = array(rng, np.int32, like.inputs[0].shape), [ir.DataType.FLOAT]
        else:
            like.inputs[0], like.quantized, like.outputs = (
                array(rng, np.float32, like.inputs[0].shape),
                True,
                [ir.DataType.FLOAT],
            )
        return like
    x, attributes = like.inputs[0].astype(np.float32), {k: v for k, v in like.attributes.items() if k in WINDOW}
    if like.op == "QGemm":
        x = x.reshape(-1, x.shape[-1])
        op, rest, attributes = rng.choice(
            [("Gemm", like.inputs[1:4:2], {"transB": 0}), ("MatMul", like.inputs[1:2], {})]
        )
        return Node("", op, [x, *rest], {1, 2}, attributes, [ir.DataType.INT32], quantized=True)
    x = np.moveaxis(x, -1, 1)
    if like.op == "QPool":
        attributes.pop("dilations", None)
        return Node("", "AveragePool", [x], set(), attributes, [ir.DataType.FLOAT], quantized=True)
    layer = [x, like.inputs[1], *([like.inputs[3]] if rng.random() < 0.5 else [])]
    return Node("", like.op[1:], layer, {1, 2}, attributes, [ir.DataType.INT32], quantized=True)


def random_attribute(rng: random.Random) -> Any:
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice(INTS)
    if kind == 1:
        return rng.choice(FLOATS)
    if kind == 2:
        return rng.choice(WORDS)
    if kind == 3:
        return "".join(rng.choice([" ", "", ";"]) + rng.choice(STEPS) for _ in range(rng.randint(0, 60)))
    if kind == 4:
        return [rng.choice(FLOATS) for _ in range(rng.randint(1, 3))]
    if kind == 5:
        return [rng.choice(WORDS[:5]) for _ in range(rng.randint(1, 3))]
    return [rng.choice(INTS) for _ in range(rng.choice([1, 2, 3, 4, 6, 65, 5000]))]


def change(rng: random.Random, node: Node) -> None:
    """One random change."""
    kind, index = rng.randrange(8), rng.randrange(len(node.inputs))
    there = node.inputs[index]
    if kind == 0 and node.attributes:
        node.attributes[rng.choice(list(node.attributes))] = random_attribute(rng)
    elif kind == 1 and node.attributes:
        del node.attributes[rng.choice(list(node.attributes))]
    elif kind == 2:
        lists = [k for k, v in node.attributes.items() if isinstance(v, list) and isinstance(v[0], int)]
        name = rng.choice(lists or ["strides", "pads", "dilations", "kernel_shape", "output_padding", "output_shape"])
        values = node.attributes[name] = list(node.attributes[name]) if lists else [1, 1]
        values[rng.randrange(len(values))] = rng.choice(INTS)
    elif kind == 3:
        node.inputs[index] = None if rng.random() < 0.5 else array(rng, rng.choice(DTYPES), shape_of(rng))
    elif kind == 4 and there is not None:
        node.inputs[index] = array(rng, there.dtype, shape_of(rng))
    elif kind == 5:
        node.constant ^= {index}
    elif kind == 6:
        del node.inputs[rng.randint(1, len(node.inputs)) :]
    else:
        types = [ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.INT8, None]
        node.outputs = [rng.choice(types) for _ in range(rng.randint(1, 4))]


MAKERS = [q_conv, q_conv, q_conv_chain, q_conv_transpose, q_gemm, q_pool, q_add, layout, observe, ascend, calibration]


def make_case(seed: int, makers: Sequence[Callable[[random.Random], Node]]) -> tuple[Node, random.Random]:
    rng = random.Random(seed)
    node = rng.choice(makers)(rng)
    for _ in range(rng.choice([0, 1, 1, 2, 3, 8])):
        change(rng, node)
    return node, rng


def model_of(node: Node, rng: random.Random) -> tuple[bytes, dict[str, np.ndarray]]:
    """The node as a model; its inputs have known, unknown or named sizes."""
    values: list[ir.Value | None] = []
    feeds, fed, initializers = {}, [], []
    for index, data in enumerate(node.inputs):
        if data is None:
            values.append(None)
            continue
        tensor = ir.tensor(data, name=f"i{index}")
        sizes = rng.choice([data.shape, [None] * data.ndim, [f"d{i}" for i in range(data.ndim)]])
        value = ir.Value(name=f"i{index}", shape=ir.Shape(sizes), type=ir.TensorType(tensor.dtype))
        values.append(value)
        if index in node.constant:
            value.const_value, value.shape = tensor, ir.Shape(data.shape)
            initializers.append(value)
        else:
            feeds[value.name] = data
            fed.append(value)
    made = [
        ir.Value(name=f"o{i}" if t else "", type=ir.TensorType(t) if t else None) for i, t in enumerate(node.outputs)
    ]
    nodes = []
    if node.quantized and values and values[0] is not None:
        attributes = {"scale": 0.5, "offset": rng.choice([0.0, 3.0]), "dst_type": "INT8"}
        quantizer = ir.node("AscendQuant", values[:1], attributes, name="quantizer")
        quantizer.outputs[0].name, quantizer.outputs[0].type = "q", ir.TensorType(ir.DataType.INT8)
        nodes, values = [quantizer], [quantizer.outputs[0], *values[1:]]
    body = ir.node(node.op, values, node.attributes, domain=node.domain, outputs=made, name="n")
    outputs = [v for v in made if v.name] or fed[:1]
    imports = {"": 17, **({node.domain: 1} if node.domain else {})}
    graph = ir.Graph(fed, outputs, nodes=[*nodes, body], initializers=initializers, opset_imports=imports, name="g")
    return ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString(), feeds


def run_case(seed: int, *, deploy_library: bool) -> str:
    """What became of the case: it ran, or where it was refused."""
    from ort_quant_plugin.ops.library import onnxruntime_module, register_custom_ops

    runtime = onnxruntime_module()
    node, rng = make_case(seed, [deploy] if deploy_library else MAKERS)
    model, feeds = model_of(node, rng)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = rng.randint(1, 2)
    register_custom_ops(options, **({"run_deploy_models": True} if deploy_library else {}))
    try:
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's own exception types
        return "refused at load"
    try:
        for _ in range(2):
            session.run(None, feeds)
    except Exception:  # as above
        return "refused at run"
    return "ran"


def child(first: int, count: int, *, deploy_library: bool) -> None:
    """Runs cases one after the other and tells each before it begins."""
    import onnxruntime  # noqa: F401  (before memory is limited)

    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_MEMORY, used + SPARE_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for seed in range(first, first + count):
        print("case", seed, flush=True)
        print("done", run_case(seed, deploy_library=deploy_library), flush=True)


def watch(command: Sequence[str], folder: str, hang_seconds: float) -> tuple[Counter[str], str]:
    """Runs a child: what became of its cases, and what was wrong with it ("" if nothing was)."""
    log = os.path.join(folder, "log.txt")  # noqa: PTH118
    with open(log, "w+", encoding="utf-8") as file:  # noqa: PTH123
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
        try:
            code: int | str = process.wait(hang_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = f"none after {hang_seconds} s"
        file.seek(0)
        lines = file.read().splitlines()
    outcomes = Counter(line.removeprefix("done ") for line in lines if line.startswith("done "))
    if code == 0:
        return outcomes, ""
    last = next((line.split()[1] for line in reversed(lines) if line.startswith("case ")), "none")
    return outcomes, f"exit code {code} in case {last}\n" + "\n".join(lines[-12:])


def has_deploy_library() -> bool:
    from ort_quant_plugin.errors import OrtQuantError
    from ort_quant_plugin.ops.library import onnxruntime_module, register_custom_ops

    try:
        register_custom_ops(onnxruntime_module().SessionOptions(), run_deploy_models=True)
    except OrtQuantError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the first case; default: from the clock")
    parser.add_argument("--case", type=int, help="run this case only, in this process")
    parser.add_argument("--deploy", action="store_true", help="with --case: of the deploy library")
    parser.add_argument("--child", type=int, metavar="COUNT", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.case is not None:
        print(make_case(options.case, [deploy] if options.deploy else MAKERS)[0], flush=True)
        print(run_case(options.case, deploy_library=options.deploy))
        return 0
    if options.child is not None:
        child(options.seed, options.child, deploy_library=options.deploy)
        return 0
    return campaign(options.seconds, time.time_ns() % 10**9 if options.seed is None else options.seed)


def campaign(seconds: float, seed: int) -> int:
    end, outcomes = time.monotonic() + seconds, Counter()
    libraries = [[], ["--deploy"]] if has_deploy_library() else [[]]
    while time.monotonic() < end:
        library = libraries[0]
        libraries.append(libraries.pop(0))
        with tempfile.TemporaryDirectory() as folder:
            script = os.path.abspath(__file__)  # noqa: PTH100
            command = [sys.executable, script, "--seed", str(seed), "--child", str(CASES_PER_CHILD), *library]
            found, wrong = watch(command, folder, HANG_SECONDS)
        outcomes += found
        if wrong:
            print(f"{wrong}\nreproduce with: python tests/fuzz/fuzz_ops.py {' '.join(library)} --case <that number>")
            return 1
        seed += CASES_PER_CHILD
    print(f"{outcomes.total()} cases, no crash: " + ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
