from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.ops import reference

F32, F16 = np.float32, np.float16


def packed(scales, shifts=0) -> np.ndarray:
    bits = np.atleast_1d(np.asarray(scales, F32)).view(np.uint32).astype(np.uint64)
    return bits | (np.asarray(shifts, np.uint64) << np.uint64(32))


def graph(rank, x_type="float", y_type="float", domain="amct.customop", attributes=""):
    dims = ",".join("ABCDE"[:rank])
    attributes = f"<{attributes}>" if attributes else ""
    return (
        f"g ({x_type}[{dims}] x, uint64[K] d) => ({y_type}[{dims}] y) "
        f"{{ y = {domain}.AscendDequant {attributes} (x, d) }}"
    )


def accumulators(shape, seed=0):
    return np.random.default_rng(seed).integers(-(2**20), 2**20, shape).astype(F32)


@pytest.mark.parametrize(
    "shape", [(7,), (5, 7), (2, 7, 9), (2, 7, 3, 5), (2, 7, 3, 2, 2), (1, 7, 64, 65), (0, 7), (0, 7, 2), (2, 7, 0)]
)
@pytest.mark.parametrize("shifted", [False, True])
def test_per_channel(run_op, isa, shape, shifted):
    x = accumulators(shape)
    d = packed(np.linspace(1e-4, 0.3, 7), [0, 1, 2, 0, 16, 4, 5] if shifted else 0)
    (y,) = run_op(graph(len(shape)), {"x": x, "d": d})
    np.testing.assert_array_equal(y, reference.ascend_dequant(x, d))


@pytest.mark.parametrize("shape", [(4099,), (3, 5), (2, 3, 4, 5)])
def test_one_scale_for_the_tensor(run_op, shape):
    x = accumulators(shape)
    (y,) = run_op(graph(len(shape)), {"x": x, "d": packed(0.25)})
    np.testing.assert_array_equal(y, x * F32(0.25))


@pytest.mark.parametrize("shape", [(2, 0), (0,), (2, 0, 3)])
def test_empty_tensors_stay_empty(run_op, shape):
    (y,) = run_op(graph(len(shape)), {"x": np.zeros(shape, F32), "d": packed(1.0)})
    assert y.shape == shape


@pytest.mark.parametrize(("shape", "axis"), [((2, 9, 7), -1), ((2, 9, 7), 2), ((7, 3), 0), ((2, 3, 4, 7), -1)])
@pytest.mark.parametrize("shifted", [False, True])
def test_axis(run_op, shape, axis, shifted):
    x = accumulators(shape)
    d = packed(np.linspace(1e-4, 0.3, 7), [0, 1, 2, 0, 3, 4, 5] if shifted else 0)
    (y,) = run_op(graph(len(shape), attributes=f"axis: int = {axis}"), {"x": x, "d": d})
    np.testing.assert_array_equal(y, reference.ascend_dequant(x, d, axis=axis))


def test_matmul_shape_where_both_axes_fit(run_op):
    """[N, T, C] with T == C: axis 1 unless the model says otherwise."""
    x = np.ones((1, 3, 3), F32)
    d = packed([1, 2, 3])
    assert run_op(graph(3), {"x": x, "d": d})[0][0, :, 0].tolist() == [1, 2, 3]
    assert run_op(graph(3, attributes="axis: int = -1"), {"x": x, "d": d})[0][0, 0].tolist() == [1, 2, 3]


def test_clipping_is_16_bit_as_soon_as_one_channel_shifts(run_op):
    x = np.array([[100000, 100000], [-100000, -100001]], F32)
    (wide,) = run_op(graph(2), {"x": x, "d": packed([1, 1])})
    np.testing.assert_array_equal(wide, x)
    (narrow,) = run_op(graph(2), {"x": x, "d": packed([1, 1], [0, 1])})
    assert narrow.tolist() == [[32767, 65534], [-32768, -65536]]


def test_32_bit_clipping(run_op):
    x = np.array([3e9, -3e9, np.nan, np.inf], F32)
    (y,) = run_op(graph(1), {"x": x, "d": packed(1.0)})
    np.testing.assert_array_equal(y, np.array([2**31, -(2**31), np.nan, 2**31], F32))


@pytest.mark.parametrize("mode", ["DEFAULT", "FORCE_FP16_QUANT"])
@pytest.mark.parametrize(
    ("domain", "x_dtype", "y_dtype"),
    [("amct.customop", F32, F32), ("amct.customop", F16, F16), ("amct.customop.extfp16", F32, F16)],
)
@pytest.mark.parametrize("channels", [1, 7])
def test_types_and_modes(run_op, isa, domain, x_dtype, y_dtype, channels, mode):
    names = {F32: "float", F16: "float16"}
    x = np.random.default_rng(1).integers(-2000, 2000, (3, 7, 31)).astype(x_dtype)
    d = packed(np.linspace(1e-3, 0.1, channels))
    attributes = f'fakequant_precision_mode: string = "{mode}"'
    (y,) = run_op(graph(3, names[x_dtype], names[y_dtype], domain, attributes), {"x": x, "d": d})
    assert y.dtype == y_dtype
    np.testing.assert_array_equal(y, reference.ascend_dequant(x, d, mode=mode).astype(y_dtype))


@pytest.mark.parametrize(
    ("shape", "d", "message"),
    [
        ((2, 7, 3), packed([1, 2]), "input 'deq_scale' has 2 values, expected 1 or 7, the size of axis 1 of x [2,7,3]"),
        ((2, 7, 3), packed(np.ones(0)), "input 'deq_scale' has 0 values, expected 1 or one per channel of x [2,7,3]"),
        ((2, 0), packed(np.ones(0)), "input 'deq_scale' has 0 values, expected 1 or one per channel of x [2,0]"),
        ((2, 0, 3), packed(np.ones(0)), "input 'deq_scale' has 0 values, expected 1 or one per channel of x [2,0,3]"),
        ((2, 2, 3), packed([1, np.nan]), "holds the scale nan in channel 1, expected a finite number"),
        ((2, 2, 3), packed([1, np.inf]), "holds the scale inf in channel 1"),
        ((2, 2, 3), packed([1, 1], [0, 17]), "holds the shift 17 in channel 1, expected an integer in [0, 16]"),
    ],
)
def test_bad_scales_are_refused(run_op, shape, d, message):
    with pytest.raises(Exception, match="AscendDequant node 'node_y': ") as caught:
        run_op(graph(len(shape)), {"x": np.zeros(shape, F32), "d": d})
    assert message in str(caught.value)


def test_axis_outside_the_tensor_is_refused(run_op):
    with pytest.raises(Exception, match=r"attribute 'axis' is 3 but input 'x' has shape \[2,7\]"):
        run_op(graph(2, attributes="axis: int = 3"), {"x": np.zeros((2, 7), F32), "d": packed(np.ones(7))})


def legacy(attributes=""):
    return (
        "g (float[A,B,C] x, float[K] n, float[L] s) => (float[A,B,C] y) "
        f"{{ y = amct.customop.Dequant {attributes} (x, n, s) }}"
    )


@pytest.mark.parametrize("clip_mode", [16, 32])
def test_legacy_dequant(run_op, clip_mode):
    x = accumulators((2, 5, 33))
    n, s = np.array([0, 1, 2, 3, 16], F32), np.linspace(0.01, 1, 5, dtype=F32)
    for shift, scale in ((n, s), (n[1:2], s), (n, s[2:3]), (n[:1], s[:1])):
        (y,) = run_op(legacy(f"<clip_mode: int = {clip_mode}>"), {"x": x, "n": shift, "s": scale})
        np.testing.assert_array_equal(y, reference.dequant(x, shift, scale, clip_mode=clip_mode))


@pytest.mark.parametrize(
    ("n", "s", "attributes", "message"),
    [
        ([0.5], [1], "", "input 'shift' holds 0.5 in channel 0, expected an integer in [0, 16]"),
        ([-1], [1], "", "input 'shift' holds -1"),
        ([np.nan], [1], "", "input 'shift' holds nan"),
        ([0, 0], np.ones(5), "", "input 'shift' has 2 values, expected 1 or 5"),
        ([], [1], "", "input 'shift' has 0 values, expected 1"),
        ([], [], "", "input 'deq_scale' has 0 values, expected 1 or one per channel of x [2,5,3]"),
        ([0], [1], "<clip_mode: int = 8>", "attribute 'clip_mode' is 8, expected 16 or 32"),
    ],
)
def test_legacy_dequant_refuses(run_op, n, s, attributes, message):
    with pytest.raises(Exception, match="Dequant node 'node_y': ") as caught:
        run_op(legacy(attributes), {"x": np.zeros((2, 5, 3), F32), "n": np.array(n, F32), "s": np.array(s, F32)})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("domain", "x_dtype", "y_dtype"),
    [("amct.customop", F32, F32), ("amct.customop", F16, F16), ("amct.customop.extfp16", F32, F16)],
)
def test_anti_quant(run_op, isa, domain, x_dtype, y_dtype):
    names = {F32: "float", F16: "float16"}
    text = (
        f"g ({names[x_dtype]}[N] x) => ({names[y_dtype]}[N] y) "
        f"{{ y = {domain}.AscendAntiQuant <scale: float = 0.37> (x) }}"
    )
    x = np.arange(-255, 256).astype(x_dtype)
    (y,) = run_op(text, {"x": x})
    assert y.dtype == y_dtype
    np.testing.assert_array_equal(y, reference.ascend_anti_quant(x, 0.37).astype(y_dtype))


def test_anti_quant_refuses_a_bad_scale(make_session):
    with pytest.raises(Exception, match="attribute 'scale' is -1, expected a finite number > 0 \\(scale_d\\)"):
        make_session("g (float[N] x) => (float[N] y) { y = amct.customop.AscendAntiQuant <scale: float = -1.0> (x) }")
