"""Which layers become one QConvChain, that it keeps names and bits, and what the report says."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from ort_quant_plugin.model import write_model
from ort_quant_plugin.passes.rewrite import original_names

NET = '<ir_version: 8, opset_import: ["": 13]>\nnet (float[N,{c},{sizes}] x) => ({outputs}) {{\n{body}\n}}'
ONE_OUTPUT = "float[N,M,P,Q] y"
EXPAND, FILTER, PROJECT, TAIL = (24, 8, 1, 1), (24, 1, 3, 3), (8, 24, 1, 1), (5, 8, 3, 3)
EVEN = "pads=[1,1,1,1]"


@pytest.fixture
def net(weights):
    """A net of layers l1, l2 … (input, shape of the weights, attributes), each with a Relu, and other lines."""

    class Net:
        def __init__(self):
            self.body, self.arrays, self.count = "", {}, 0

        def layer(self, value: str, shape: tuple[int, ...], attributes: str = "", scale: str = "9.25"):
            self.count += 1
            n = self.count
            self.arrays |= weights(n, *shape)
            given = f"<{attributes}>" if attributes else ""
            self.body += f'q{n} = AscendQuant <scale={scale}, offset=-20.0, dst_type="INT8">({value})\n'
            self.body += f"[l{n}] c{n} = Conv {given}(q{n}, w{n}, b{n})\n v{n} = AscendDequant(c{n}, s{n})\n"
            self.body += f"y{n} = Relu(v{n})\n"
            return f"y{n}"

        def line(self, text: str):
            self.body += f"{text}\n"

        def text(self, outputs: str = ONE_OUTPUT, c: int = 8, sizes: str = "H,W") -> str:
            return NET.format(c=c, sizes=sizes, outputs=outputs, body=self.body)

    return Net()


def chains(made) -> list[list[str]]:
    """Layers of each chain, in the order of the layers, by the report."""
    found: dict[str, list[str]] = {}
    for layer in made.report.layers:
        assert (layer.operator == "QConvChain") == (layer.chain is not None)
        if layer.chain is not None:
            found.setdefault(layer.chain, []).append(layer.name)
    assert sorted(found) == sorted(node.name for node in made.model.graph if node.op_type == "QConvChain")
    return list(found.values())


def block(net, value="x", attributes=EVEN):
    """Expansion, depthwise convolution, projection."""
    filtered = net.layer(net.layer(value, EXPAND), FILTER, f"group=24, {attributes}")
    return net.layer(filtered, PROJECT, "group=1, kernel_shape=[1,1], strides=[1,1], dilations=[1,1], pads=[0,0,0,0]")


def test_inverted_residual_blocks(lowered, net, image):
    """Two blocks with a skip connection: each is one node, which does what three did."""
    one = block(net)
    two = block(net, one)
    net.line(f"sum = Add({two}, {one})")
    last = net.layer("sum", TAIL, EVEN)
    net.line(f"y = Identity({last})")
    made = lowered(net.text(), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert made.operators == {"QuantizeLayout": 1, "QConvChain": 2, "QConv": 1}
    assert made.report.operators == dict(made.operators)
    assert chains(made) == [["l1", "l2", "l3"], ["l4", "l5", "l6"]]
    assert made.report.summary() == (
        "7 of 7 quantized layers run in int8 (1 QConv, 6 in 2 QConvChain), 1 tensor is quantized at borders"
    )
    first, second = made.node("l3"), made.node("l6")
    assert original_names(first) == ["l3", "l2", "l1"]
    names = [value.name if value is not None else None for value in second.inputs]
    assert names[0] == first.outputs[0].name
    assert [names[i] for i in (1, 5, 9)] == ["w4", "w5", "w6"]
    assert names[2:4] == ["l4.deq_scale", "l4.bias_int32"]
    assert [names[i] for i in (4, 8, 12)] == [None] * 3
    assert second.inputs[13] is first.outputs[1]
    assert len(first.inputs) == 12
    attributes = {name: a.value for name, a in second.attributes.items()}
    assert attributes["stage1_group"] == 24
    assert attributes["stage1_pads"] == (1, 1, 1, 1)
    assert attributes["stage0_epilogue"] == attributes["stage1_epilogue"] == "relu 0"
    assert attributes["stage2_epilogue"] == "relu 0;add 1 r0"
    assert attributes["stage0_y_scale"] == attributes["stage2_y_scale"] == 9.25
    assert attributes["stage2_x_offset"] == -20
    assert all(name.startswith("stage") for name in attributes)


def test_names_and_shapes_are_kept(lowered, net, tmp_path):
    net.line(f"y = Identity({net.layer(block(net), TAIL)})")
    text = net.text(sizes="9,7")
    made, plain = lowered(text, **net.arrays), lowered(text, chains=False, **net.arrays)
    assert plain.operators == {"QuantizeLayout": 1, "QConv": 4}
    chain, conv = made.node("l3"), plain.node("l3")
    assert [value.name for value in chain.outputs] == [value.name for value in conv.outputs]
    assert [value.shape for value in chain.outputs] == [value.shape for value in conv.outputs]
    assert chain.outputs[0].shape is not None
    assert set(made.model.graph.initializers) == set(plain.model.graph.initializers)
    assert [node.name for node in made.model.graph] == ["x.quantize", "l3", "l4"]
    write_model(made.model, tmp_path / "made.onnx")
    (again,) = [node for node in ir.load(tmp_path / "made.onnx").graph if node.op_type == "QConvChain"]
    assert original_names(again) == ["l3", "l2", "l1"]  # who reads the file finds the layers


def test_a_layer_is_in_one_chain(lowered, net, image):
    """Depthwise and pointwise layers in turn: the projection of one pair is no beginning of the next."""
    value = net.layer("x", (24, 8, 3, 3), EVEN)
    for _ in range(2):
        value = net.layer(value, FILTER, f"group=24, {EVEN}")
        value = net.layer(value, (24, 24, 1, 1))
    net.line(f"y = Identity({net.layer(value, (5, 24, 1, 1))})")
    made = lowered(net.text(), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert chains(made) == [["l1", "l2", "l3"], ["l4", "l5"]]


def test_depthwise_layers_in_a_row(lowered, net, image):
    value = net.layer("x", EXPAND)
    for _ in range(2):
        value = net.layer(value, FILTER, f"group=24, {EVEN}")
    net.line(f"y = Identity({net.layer(net.layer(value, PROJECT), TAIL)})")
    made = lowered(net.text(), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert chains(made) == [["l1", "l2"], ["l3", "l4"]]


def test_the_first_layer_of_the_graph(lowered, net, image):
    """No producer: two stages."""
    value = net.layer(net.layer("x", FILTER, f"group=24, {EVEN}"), PROJECT)
    net.line(f"y = Identity({net.layer(value, TAIL)})")
    made = lowered(net.text(c=24), {"x": image(2, 24, 9, 7)}, **net.arrays)
    assert chains(made) == [["l1", "l2"]]
    assert len(made.node("l2").inputs) == 8


def test_an_expansion_that_others_read(lowered, net, image):
    expanded = net.layer("x", EXPAND)
    other = net.layer(expanded, (5, 24, 1, 1))
    value = net.layer(net.layer(expanded, FILTER, f"group=24, {EVEN}"), PROJECT)
    net.line(f"y = Identity({net.layer(value, TAIL, EVEN)}) \n z = Identity({other})")
    outputs = f"{ONE_OUTPUT}, float[N,A,B,C] z"
    made = lowered(net.text(outputs), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert chains(made) == [["l3", "l4"]]


def filtered_read_twice(net):
    filtered = net.layer(net.layer("x", EXPAND), FILTER, f"group=24, {EVEN}")
    return net.layer(filtered, PROJECT), net.layer(filtered, (5, 24, 1, 1))


def filtered_read_in_float(net):
    filtered = net.layer(net.layer("x", EXPAND), FILTER, f"group=24, {EVEN}")
    return net.layer(filtered, PROJECT), filtered


def filtered_quantized_twice(net):
    filtered = net.layer(net.layer("x", EXPAND), FILTER, f"group=24, {EVEN}")
    return net.layer(filtered, PROJECT), net.layer(filtered, (5, 24, 1, 1), scale="11.5")


def several_outputs_a_channel(net):
    value = net.layer(net.layer("x", EXPAND), (48, 1, 3, 3), f"group=24, {EVEN}")
    return net.layer(value, (8, 48, 1, 1)), "x"


def fewer_channels_out(net):
    value = net.layer(net.layer("x", EXPAND), (12, 2, 3, 3), f"group=12, {EVEN}")
    return net.layer(value, (8, 12, 1, 1)), "x"


def groups_of_two(net):
    value = net.layer(net.layer("x", EXPAND), (24, 2, 3, 3), f"group=12, {EVEN}")
    return net.layer(value, PROJECT), "x"


@pytest.mark.parametrize(
    "make",
    [
        filtered_read_twice,
        filtered_read_in_float,
        filtered_quantized_twice,
        several_outputs_a_channel,
        fewer_channels_out,
        groups_of_two,
    ],
)
def test_no_chain(lowered, net, image, make):
    value, other = make(net)
    net.line(f"y = Identity({net.layer(value, TAIL, EVEN)}) \n z = Identity({other})")
    made = lowered(net.text(f"{ONE_OUTPUT}, float[N,A,B,C] z"), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert chains(made) == []


def test_pooled_codes_end_a_chain(lowered, net, image):
    filtered = net.layer(net.layer("x", EXPAND), FILTER, f"group=24, {EVEN}")
    net.line(f"pooled = MaxPool <kernel_shape=[2,2]>({filtered})")
    net.line(f"y = Identity({net.layer(net.layer('pooled', PROJECT), TAIL, EVEN)})")
    made = lowered(net.text(), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert chains(made) == [["l1", "l2"]]
    assert made.operators["QPool"] == 1


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [((8, 24, 3, 3), EVEN), ((8, 24, 1, 1), "strides=[2,1]"), ((8, 12, 1, 1), "group=2"), ((24, 1, 1, 1), "group=24")],
)
def test_readers_that_are_no_projection(lowered, net, image, shape, attributes):
    filtered = net.layer(net.layer("x", EXPAND), FILTER, f"group=24, {EVEN}")
    value = net.layer(filtered, shape, attributes)
    net.line(f"y = Identity({net.layer(value, (5, shape[0], 3, 3), EVEN)})")
    made = lowered(net.text(), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert chains(made)[0] == ["l1", "l2"]


def test_a_projection_with_its_channels_first(lowered, net, image):
    net.line(f"y = Sigmoid({block(net)})")
    made = lowered(net.text(), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert made.node("l3").attributes["float_layout"].as_string() == "channels_first"
    assert chains(made) == [["l1", "l2"]]


def test_residuals_are_for_the_last_layer(lowered, net, image):
    """A sum behind the expansion, or behind the depthwise layer, keeps it from being anything else."""
    start = net.layer("x", EXPAND)
    expanded = net.layer(start, (24, 24, 1, 1))
    net.line(f"a = Add({expanded}, {start})")
    value = net.layer(net.layer("a", FILTER, f"group=24, {EVEN}"), (24, 24, 1, 1))
    filtered = net.layer(net.layer(value, (24, 24, 1, 1)), FILTER, f"group=24, {EVEN}")
    net.line(f"b = Add({filtered}, {value})")
    net.line(f"y = Identity({net.layer(net.layer('b', PROJECT), TAIL)})")
    made = lowered(net.text(), {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert made.epilogue("l2") == ["relu 0", "add 1 r0"]
    assert chains(made) == [["l3", "l4"], ["l5", "l6"]]
    assert made.node("l6").inputs[13].name == made.node("l4").outputs[1].name


@pytest.mark.parametrize(("rank", "sizes"), [(1, (9,)), (3, (4, 5, 6))])
def test_other_ranks(lowered, net, image, rank, sizes):
    ones, threes, pads = (1,) * rank, (3,) * rank, f"pads={[1] * 2 * rank}"
    expanded = net.layer("x", (24, 8, *ones))
    value = net.layer(net.layer(expanded, (24, 1, *threes), f"group=24, {pads}"), (8, 24, *ones))
    net.line(f"y = Identity({net.layer(value, (5, 8, *ones))})")
    free = ",".join("PQR"[:rank])
    text = net.text(f"float[N,M,{free}] y", sizes=",".join("HWD"[:rank]))
    made = lowered(text, {"x": image(2, 8, *sizes)}, **net.arrays)
    assert chains(made) == []


def test_constants_per_channel(lowered, net, image):
    value = net.layer("x", EXPAND)
    net.line(f"m = Mul({value}, k)")
    value = net.layer(net.layer("m", FILTER, f"group=24, {EVEN}"), PROJECT)
    net.line(f"y = Identity({net.layer(value, TAIL)})")
    k = image(24, 1, 1)
    made = lowered(net.text(), {"x": image(2, 8, 9, 7)}, **net.arrays, k=k)
    chain = made.node("l3")
    assert chain.inputs[4].shape == (1, 24)
    assert chain.inputs[8] is None


def test_large_maps(lowered, net, image):
    """Strips: between the layers lies more than the cache is given."""
    for name, attributes in (("one", EVEN), ("two", "pads=[1,1,1,1], strides=[2,2]")):
        net.line(f"{name} = Identity({block(net, 'x' if name == 'one' else 'one', attributes=attributes)})")
    net.line(f"y = Identity({net.layer('two', TAIL)})")
    made = lowered(net.text(), {"x": image(1, 8, 170, 150)}, level="ORT_ENABLE_ALL", **net.arrays)
    assert len(chains(made)) == 2


def test_nodes_without_names(lowered, net, image):
    net.line(f"y = Identity({net.layer(block(net), TAIL)})")
    text = net.text()
    for n in range(1, 5):
        text = text.replace(f"[l{n}] ", "")
    made = lowered(text, {"x": image(2, 8, 9, 7)}, **net.arrays)
    assert chains(made) == [["c1", "c2", "c3"]]
