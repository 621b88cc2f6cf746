"""The ops, their numpy reference and the plain ONNX chain agree bit for bit."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ort_quant_plugin.ops import reference

F32 = np.float32
PLAIN = {"graph_optimization_level": ort.GraphOptimizationLevel.ORT_DISABLE_ALL}

floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
moderate = st.floats(-1000, 1000, width=32)
scales = st.floats(2.0**-20, 2.0**20, width=32)


def exactly_equal(a, b):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)]))


@settings(deadline=None, max_examples=60)
@given(
    x=arrays(F32, array_shapes(max_dims=1, max_side=70), elements=st.one_of(floats, moderate)),
    scale=scales,
    bits=st.sampled_from([4, 8, 16]),
    data=st.data(),
)
def test_ascend_quant(run_op, x, scale, bits, data):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    offset = data.draw(st.integers(low, high))
    graph = f"""g (float[N] x, float s, float o, float lo, float hi) => (float[N] op, float[N] chain) {{
        op = amct.customop.AscendQuant <scale: float = {decimal(scale)}, offset: float = {offset}.0,
                                        dst_type: string = "INT{bits}"> (x)
        m = Mul (x, s)
        r = Round (m)
        a = Add (r, o)
        c = Clip (a, lo, hi)
        chain = Sub (c, o) }}"""
    feeds = {"x": x, "s": F32(scale), "o": F32(offset), "lo": F32(low), "hi": F32(high)}
    op, chain = run_op(graph, {k: np.asarray(v, F32) for k, v in feeds.items()}, **PLAIN)
    exactly_equal(op, chain)
    exactly_equal(op, reference.ascend_quant(x, F32(scale), offset, bits))


@settings(deadline=None, max_examples=60)
@given(
    x=arrays(F32, array_shapes(min_dims=2, max_dims=4, max_side=9), elements=st.integers(-(2**24), 2**24).map(float)),
    data=st.data(),
)
def test_ascend_dequant(run_op, x, data):
    channels = x.shape[1]
    scale = np.array(data.draw(st.lists(scales, min_size=channels, max_size=channels)), F32)
    dims = ",".join("ABCD"[: x.ndim])
    graph = f"""g (float[{dims}] x, uint64[C] d, float[{dims}] s) => (float[{dims}] op, float[{dims}] chain) {{
        op = amct.customop.AscendDequant (x, d)
        chain = Mul (x, s) }}"""
    packed = scale.view(np.uint32).astype(np.uint64)
    per_channel = scale.reshape([-1 if i == 1 else 1 for i in range(x.ndim)])
    op, chain = run_op(graph, {"x": x, "d": packed, "s": per_channel}, **PLAIN)
    exactly_equal(op, chain)
    exactly_equal(op, reference.ascend_dequant(x, packed))


@settings(deadline=None, max_examples=40)
@given(
    x=arrays(F32, st.integers(1, 400), elements=moderate),
    asymmetric=st.booleans(),
    bits=st.sampled_from([4, 8]),
)
def test_ifmr_loss_is_least(run_op, tmp_path_factory, x, asymmetric, bits):
    """The op's scale is the reference's, or one of the same error (a near tie decided by the last bits of a sum)."""
    path = tmp_path_factory.mktemp("record") / "record.txt"
    path.write_text('record {\n  key: "a"\n  value {\n  }\n}\n', encoding="utf-8")
    graph = f"""g (float[N] x) => (float[1] s) {{ s = amct.customop.IFMR <record_file_path: string = "{path}",
        object_layer0: string = "a", with_offset: int = {int(asymmetric)}, num_bits: int = {bits}> (x) }}"""
    (scale,) = run_op(graph, {"x": x})
    want, _ = reference.ifmr(x, asymmetric=asymmetric, num_bits=bits)
    assert scale[0] == want or error_of(x, scale[0], asymmetric, bits) == pytest.approx(
        error_of(x, want, asymmetric, bits), rel=1e-4
    )


def error_of(x, scale, asymmetric, bits):
    """Squared error with the range that belongs to a scale: [min(x, 0), min + S·levels], or ±S·levels."""
    levels = F32(2**bits - 1)
    if asymmetric:
        low = min(x.min(), F32(0))
        clipped = np.clip(x, low, low + scale * levels)
    else:
        x = np.abs(x)
        clipped = np.minimum(x, scale * F32(2 ** (bits - 1)))
    restored = np.rint(clipped / scale) * scale
    return float(np.sum((restored.astype(np.float64) - x) ** 2)) + 1e-12


def decimal(value) -> str:
    """A float32 in the plain decimal form that ONNX text knows."""
    return np.format_float_positional(F32(value), unique=True, trim="0")
