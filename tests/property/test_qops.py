"""Random shapes and attributes, extremes included: the int8 operators equal the numpy oracle bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ort_quant_plugin.ops import reference_int8 as oracle

F32 = np.float32
EXAMPLES = settings(deadline=None, max_examples=100)
CODES = st.sampled_from(["any", "lowest", "highest", "ends"])
OFFSETS = st.sampled_from([0, -128, 127, 5, -77])
SCALES = st.sampled_from([1.0, 0.03125, 37.7, 1e-6, 1e30])


def draw_bytes(data, shape, dtype=np.uint8):
    """Random codes, all the lowest, all the highest, or a random mixture of both ends."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    info = np.iinfo(dtype)
    kind = data.draw(CODES)
    if kind == "any":
        return random.integers(info.min, info.max + 1, shape, dtype)
    if kind == "ends":
        return random.choice(np.array([info.min, info.max], dtype), shape)
    return np.full(shape, info.min if kind == "lowest" else info.max, dtype)


def draw_bias(data, channels):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    span = data.draw(st.sampled_from([0, 10**4, 2**31 - 1]))
    return data.draw(st.sampled_from([None, random.integers(-span, span + 1, channels).astype(np.int32)]))


def draw_deq(data, channels):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    size = data.draw(st.sampled_from([1, channels]))
    return (random.uniform(0.5, 1, size) * data.draw(SCALES)).astype(F32)


def draw_end(data, shape):
    """Epilogue with its constants and residuals, for an output of `shape`."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    names = ["0", "r0", "r1", "c0", "c1", "0.5", "-3.25", "1e-3"]
    steps = []
    for number in range(data.draw(st.sampled_from([0, 0, 1, 2, 5, 16]))):
        a = data.draw(st.sampled_from([*map(str, range(number + 1)), "r0", "c1"]))
        b = data.draw(st.sampled_from([*names, str(number)]))
        steps.append(
            data.draw(
                st.sampled_from(
                    [
                        *(f"{op} {a} {b}" for op in ("add", "sub", "mul", "div")),
                        f"clip {a} -1.5 6.0",
                        f"clip {a} -inf 0.75",
                        f"relu {a}",
                        f"leaky_relu {a} 0.01",
                        f"hard_sigmoid {a} 0.16666667 0.5",
                    ]
                )
            )
        )
    inputs = [random.normal(0, 3, s).astype(F32) for s in ((2, shape[-1]), shape, shape)]
    return ";".join(steps), inputs


def session_choices(data, instruction_sets):
    return {"threads": data.draw(st.sampled_from([1, 2])), "isa": data.draw(st.sampled_from(instruction_sets))}


def check_end(run_node, instruction_sets, data, op, inputs, value, *, prefix="", gap=0, **attributes):
    """Runs the node with a random end on `inputs`; `value` is what goes into its epilogue.

    The names of the end's attributes begin with `prefix`; `gap` inputs are left out in front of the residuals.
    """
    epilogue, ends = draw_end(data, value.shape)
    want = oracle.run_epilogue(value, epilogue, *ends)
    names = [n for n in ("y", "y_float", "y2") if data.draw(st.booleans())] or ["y"]
    scale, offset = data.draw(SCALES), data.draw(OFFSETS)
    end = {"epilogue": epilogue, "y_scale": scale, "y_offset": offset, "y2_scale": 1.0, "y2_offset": -1}
    found = run_node(
        op,
        [*inputs, ends[0], *[None] * gap, *ends[1:]],
        names,
        **session_choices(data, instruction_sets),
        **{f"{prefix}{name}": entry for name, entry in end.items()},
        **attributes,
    )
    expected = {
        "y": oracle.quantize(want, scale, offset),
        "y_float": want,
        "y2": oracle.quantize(want, 1.0, -1),
    }
    for name, array in zip(names, found, strict=True):
        np.testing.assert_array_equal(array, expected[name])


def draw_window(data, rank, *, pools=False):
    sizes = st.integers(1, 4)
    window = {
        "kernel": [data.draw(sizes) for _ in range(rank)],
        "strides": [data.draw(st.integers(1, 3)) for _ in range(rank)],
    }
    if data.draw(st.booleans()):
        window["auto_pad"] = data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]))
    if window.get("auto_pad", "NOTSET") == "NOTSET":
        limits = [k - 1 if pools else 4 for k in window["kernel"]] * 2
        window["pads"] = [data.draw(st.integers(0, limit)) for limit in limits]
    if not window.get("auto_pad", "").startswith("SAME"):
        window["dilations"] = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    return window


def draw_spatial(data, window):
    """Sizes that leave room for at least one window."""
    rank = len(window["kernel"])
    dilations, pads = window.get("dilations", [1] * rank), window.get("pads", [0] * 2 * rank)
    least = [
        1 if window.get("auto_pad", "").startswith("SAME") else (k - 1) * d + 1 - b - e
        for k, d, b, e in zip(window["kernel"], dilations, pads[:rank], pads[rank:], strict=True)
    ]
    return [data.draw(st.integers(max(1, size), max(1, size) + 6)) for size in least]


@EXAMPLES
@given(data=st.data())
def test_conv(run_node, instruction_sets, data):
    rank = data.draw(st.integers(1, 3))
    window = draw_window(data, rank)
    group = data.draw(st.sampled_from([1, 1, 1, 2, 3, 8, 17]))
    per_group = data.draw(st.sampled_from([1, 1, 2, 3, 4, 8, 16, 19]))
    out_per_group = data.draw(st.sampled_from([1, 1, 2, 3, 5, 16, 17, 33]))
    x = draw_bytes(data, (data.draw(st.integers(1, 2)), *draw_spatial(data, window), group * per_group))
    w = draw_bytes(data, (group * out_per_group, per_group, *window.pop("kernel")), np.int8)
    layer = [x, w, draw_deq(data, len(w)), draw_bias(data, len(w))]
    attributes = {**window, "group": group, "x_offset": data.draw(OFFSETS)}
    check_end(run_node, instruction_sets, data, "QConv", layer, oracle.q_conv(*layer, **attributes), **attributes)


def draw_stage(data, shape, outputs):
    """Arguments of the oracle for a convolution of maps of this shape (1×1 where no other fits)."""
    *_, height, width, channels = shape
    window = draw_window(data, 2)
    pads = window.get("pads", [0] * 4)
    sizes = [height + pads[0] + pads[2], width + pads[1] + pads[3]]
    reach = [(k - 1) * d + 1 for k, d in zip(window["kernel"], window.get("dilations", [1, 1]), strict=True)]
    if not window.get("auto_pad", "").startswith("SAME") and any(r > s for r, s in zip(reach, sizes, strict=True)):
        window = {"kernel": [1, 1]}
    out = data.draw(st.sampled_from([channels, channels, *outputs]))
    group = data.draw(st.sampled_from([1, *(g for g in (2, 3, channels) if channels % g == out % g == 0)]))
    w = draw_bytes(data, (out, channels // group, *window.pop("kernel")), np.int8)
    layer = {"w": w, "deq": draw_deq(data, out), "bias": draw_bias(data, out)}
    return layer, {**window, "group": group, "x_offset": data.draw(OFFSETS)}


@EXAMPLES
@given(data=st.data())
def test_conv_chain(run_node, instruction_sets, data):
    """Maps of a few values, and maps that are computed strip by strip."""
    large = data.draw(st.sampled_from([False, False, True]))
    sides = st.integers(50, 64) if large else st.integers(1, 12)
    images, channels = data.draw(st.integers(1, 2 if large else 3)), data.draw(st.sampled_from([1, 3, 8, 16]))
    x = value = draw_bytes(data, (images, data.draw(sides), data.draw(sides), channels))
    inputs, attributes, number = [x], {}, data.draw(st.integers(2, 3))
    for i in range(number):
        if i:
            epilogue = data.draw(st.sampled_from(["", "relu 0", "mul 0 c0;add 1 c1", "clip 0 -1.5 6.0"]))
            inputs.append(np.random.default_rng(i).normal(1, 0.2, (2, value.shape[-1])).astype(F32))
            value = oracle.run_epilogue(value, epilogue, inputs[-1])
            most = float(np.abs(value).max())
            end = {"y_scale": 99 / most if 1e-30 < most < 1e30 else 1.0, "y_offset": data.draw(OFFSETS)}
            attributes |= {f"stage{i - 1}_{k}": v for k, v in {**end, "epilogue": epilogue}.items()}
            value = oracle.quantize(value, end["y_scale"], end["y_offset"])
        layer, rest = draw_stage(data, value.shape, [130, 160] if large and i == 0 else [1, 5, 8, 17, 33])
        inputs += layer.values()
        attributes |= {f"stage{i}_{k}": v for k, v in rest.items()}
        value = oracle.q_conv(value, **layer, **rest)
    prefix, gap = f"stage{number - 1}_", 4 * (3 - number)
    check_end(run_node, instruction_sets, data, "QConvChain", inputs, value, prefix=prefix, gap=gap, **attributes)


@EXAMPLES
@given(data=st.data())
def test_conv_transpose(run_node, instruction_sets, data):
    rank = data.draw(st.integers(1, 3))
    window = draw_window(data, rank)
    kernel = window.pop("kernel")
    group = data.draw(st.sampled_from([1, 1, 2, 5]))
    per_group = data.draw(st.sampled_from([1, 2, 4, 7, 16]))
    out_per_group = data.draw(st.sampled_from([1, 3, 8, 17]))
    spatial = [data.draw(st.integers(1, 5)) for _ in range(rank)]
    dilations = window.get("dilations", [1] * rank)
    attributes = {**window, "group": group, "x_offset": data.draw(OFFSETS)}
    extra = [data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(window["strides"], dilations, strict=True)]
    natural = [
        (spatial[i] - 1) * window["strides"][i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] for i in range(rank)
    ]
    attributes["output_padding"] = extra
    if data.draw(st.booleans()):
        attributes["output_shape"] = [data.draw(st.integers(1, n)) for n in natural]
    else:
        pads = window.get("pads", [0] * 2 * rank)
        assume(all(n > b + e for n, b, e in zip(natural, pads[:rank], pads[rank:], strict=True)))
    x = draw_bytes(data, (data.draw(st.integers(1, 2)), *spatial, group * per_group))
    w = draw_bytes(data, (group * per_group, out_per_group, *kernel), np.int8)
    layer = [x, w, draw_deq(data, group * out_per_group), draw_bias(data, group * out_per_group)]
    check_end(
        run_node,
        instruction_sets,
        data,
        "QConvTranspose",
        layer,
        oracle.q_conv_transpose(*layer, **attributes),
        **attributes,
    )


@EXAMPLES
@given(data=st.data())
def test_gemm(run_node, instruction_sets, data):
    depth, columns = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 70))
    x = draw_bytes(data, (*data.draw(st.lists(st.integers(1, 9), max_size=3)), depth))
    w = draw_bytes(data, (depth, columns), np.int8)
    layer = [x, w, draw_deq(data, columns), draw_bias(data, columns)]
    offset = data.draw(OFFSETS)
    check_end(run_node, instruction_sets, data, "QGemm", layer, oracle.q_gemm(*layer, x_offset=offset), x_offset=offset)


@EXAMPLES
@given(data=st.data())
def test_average_pool(run_node, instruction_sets, data):
    window = draw_window(data, data.draw(st.integers(1, 3)), pools=True)
    spatial = draw_spatial(data, window)
    window["kernel_shape"] = window.pop("kernel")
    window["ceil_mode"], include = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))
    x = draw_bytes(data, (data.draw(st.integers(1, 2)), *spatial, data.draw(st.integers(1, 90))))
    deq, offset = draw_deq(data, 1), data.draw(OFFSETS)
    value = oracle.q_average_pool(x, deq[0], x_offset=offset, count_include_pad=include, **window)
    assume(not np.isnan(value).any())  # a dilated window can lie in the padding altogether
    attributes = {**window, "count_include_pad": include, "x_offset": offset}
    check_end(run_node, instruction_sets, data, "QPool", [x, deq], value, mode="average", **attributes)


@EXAMPLES
@given(data=st.data())
def test_max_pool(run_node, instruction_sets, data):
    window = draw_window(data, data.draw(st.integers(1, 3)), pools=True)
    spatial = draw_spatial(data, window)
    window["kernel_shape"] = window.pop("kernel")
    window["ceil_mode"] = data.draw(st.integers(0, 1))
    x = draw_bytes(data, (data.draw(st.integers(1, 2)), *spatial, data.draw(st.integers(1, 90))))
    (y,) = run_node("QPool", [x], mode="max", **session_choices(data, instruction_sets), **window)
    np.testing.assert_array_equal(y, oracle.q_max_pool(x, **window))


@EXAMPLES
@given(data=st.data())
def test_global_average_pool(run_node, instruction_sets, data):
    spatial = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    x = draw_bytes(data, (data.draw(st.integers(1, 3)), *spatial, data.draw(st.integers(1, 90))))
    deq, offset = draw_deq(data, 1), data.draw(OFFSETS)
    value = oracle.q_average_pool(x, deq[0], x_offset=offset)
    check_end(run_node, instruction_sets, data, "QPool", [x, deq], value, mode="global_average", x_offset=offset)


@EXAMPLES
@given(data=st.data())
def test_add(run_node, instruction_sets, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    pair = [draw_bytes(data, shape), draw_bytes(data, shape)]
    attributes = {
        "a_scale": data.draw(SCALES),
        "b_scale": data.draw(SCALES),
        "a_offset": data.draw(OFFSETS),
        "b_offset": data.draw(OFFSETS),
    }
    check_end(run_node, instruction_sets, data, "QAdd", pair, oracle.q_add(*pair, **attributes), **attributes)
