"""ort_quant.Observe: what it hands out is the sketch of all it saw."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ort_quant_plugin.calibration.sketch import Sketch, merge
from ort_quant_plugin.ops.library import onnxruntime_module

F32, F16 = np.float32, np.float16
LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]
YES = {"flush": np.array([True])}


@pytest.fixture(scope="session")
def observer(make_session):
    """Session of one node that observes x."""

    def _observer(*, x_type="float", flush="[1]", attributes="", graph=None, **options):
        graph = graph or (
            f"g ({x_type}[] x, bool{flush} flush) => (uint8[n] s) {{ s = ort_quant.Observe {attributes} (x, flush) }}"
        )
        return make_session(graph, defaults={"flush": np.zeros([1] if flush else [], bool)}, **options)

    return _observer


def sketch_of(batches, key="x", axis=None):
    return merge(Sketch.of(batch, key, axis=axis) for batch in batches)[key]


def flushed(session, batches):
    """The sketch after all batches, checked to be in its canonical form."""
    for batch in batches[:-1]:
        assert session.run(["s"], {"x": batch})[0].shape == (0,)
    data = session.run(["s"], {"x": batches[-1], **YES})[0].tobytes()
    sketch = Sketch.from_bytes(data)
    assert sketch.to_bytes() == data
    return sketch


def check(session, batches, **settings):
    got, want = flushed(session, batches), sketch_of(batches, **settings)
    assert got == want
    with np.errstate(over="ignore"):
        sums = [(got.total, want.total), (got.total_abs, want.total_abs), (got.total_squares, want.total_squares)]
    for one, other in sums:
        assert one == pytest.approx(other, rel=1e-12, abs=1e-12 * want.total_abs)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.2, 2, shape).astype(F32)


SPECIAL = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1e-38, -1e-38, 3.4e38, -1e-30, 1.0, -1.0], F32)


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize(
    "batches",
    [
        [normal(2, 3, 5), np.zeros((0, 7), F32), np.array(-4.0, F32), normal(70000, seed=1)],
        [np.maximum(normal(300, 1000), 0), normal(17, seed=2) * 100],
        [SPECIAL],
        [SPECIAL, SPECIAL[::-1].copy(), np.full((3, 1000), -7.25, F32)],
        [np.array([1e-30, -1e-30], F32), np.array([1e30], F32)],
        [np.array([1e30], F32), np.array([1e-30, -1e-30], F32)],
        [np.zeros(0, F32)],
        [np.array([-0.0], F32)],
        [np.repeat(np.array([1, 1.001, -3], F32), [255, 256, 65536])],
        [np.arange(-4096, 4096, dtype=F32), np.nextafter(np.arange(-4096, 4096, dtype=F32), F32(0))],
    ],
    ids=["shapes", "relu", "special", "mixed", "growing", "shrinking", "empty", "zero", "counters", "edges"],
)
def test_equals_the_sketch_of_all_data(observer, isa, to_dtype, dtype, batches):
    session = observer(x_type="float" if dtype is F32 else "float16")
    check(session, [to_dtype(batch, dtype) for batch in batches])


@pytest.fixture(scope="session")
def plain_session(observer):
    return observer()


@settings(deadline=None, max_examples=100)
@given(
    st.lists(arrays(F32, array_shapes(min_dims=0, max_dims=3, max_side=30), elements=st.floats(width=32)), min_size=1)
)
def test_any_floats(plain_session, batches):
    check(plain_session, batches)


@pytest.mark.parametrize("magnitude", [0, 20, 60, 100])
def test_any_bits(observer, isa, magnitude):
    """Random bit patterns up to a magnitude: every grid, subnormals and NaNs of all kinds."""
    bits = np.random.default_rng(magnitude).integers(0, 2**32, 100000, dtype=np.uint32)
    values = bits.view(F32)
    with np.errstate(invalid="ignore"):
        batches = np.split(np.where(np.abs(values) > 2.0 ** (27 + magnitude), np.abs(values) * F32(0), values), 4)
    check(observer(), [batch.astype(F32) for batch in batches])


def test_threads_and_instruction_sets_change_no_byte(observer, isa, monkeypatch):
    batches = [normal(3, 111, 1111), np.maximum(normal(400000, seed=5), 0)]
    forced = [flushed(observer(intra_op_num_threads=threads), batches) for threads in (1, 2, 3)]
    monkeypatch.delenv("ORT_QUANT_ISA")
    assert {sketch.to_bytes() for sketch in forced} == {flushed(observer(), batches).to_bytes()}


def test_subnormals_count_where_the_runtime_flushes_them(observer):
    x = np.array([1e-45, -1e-45, 1e-39, -1e-39, 0.0] * 100, F32)
    session = observer(
        config={"session.set_denormal_as_zero": "1"}, attributes="<axis: int = 0>", intra_op_num_threads=1
    )
    assert flushed(session, [x]) == Sketch.of(x, "x", axis=0)


# --- flushing -----------------------------------------------------------------------------------------------------


def test_every_flush_is_a_delta(observer):
    session, other = observer(), observer()
    parts = []
    for seed in range(6):
        x = normal(1000 + seed, seed=seed) * F32(seed + 1)
        data = (session, other)[seed % 2].run(["s"], {"x": x, "flush": np.array([seed > 1])})[0].tobytes()
        parts += Sketch.split(data)
    assert len(parts) == 4
    assert merge(parts)["x"] == sketch_of([normal(1000 + seed, seed=seed) * F32(seed + 1) for seed in range(6)])
    empty = session.run(["s"], {"x": np.zeros(0, F32), **YES})[0].tobytes()
    assert Sketch.from_bytes(empty) == Sketch(key="x")


def test_flush_may_be_a_scalar(observer):
    session = observer(flush="")
    (data,) = session.run(None, {"x": normal(9), "flush": np.array(True)})
    assert Sketch.from_bytes(data.tobytes()) == Sketch.of(normal(9), "x")


def test_flush_must_be_one_value(observer):
    session = observer(flush="[N]")
    with pytest.raises(Exception, match=r"Observe node 'node_s': input 'flush' has shape \[2\], expected \[1\]"):
        session.run(None, {"x": normal(3), "flush": np.array([True, False])})
    assert flushed(session, [normal(3)]).count == 3  # the refused run did not count


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dangling", [False, True])
def test_every_optimization_level(observer, level, dangling):
    """A dangling node runs as well: the other one beside it tells that the model does what it did."""
    ort = onnxruntime_module()
    outputs = "float[N,4] y" if dangling else "float[N,4] y, uint8[n] s"
    session = observer(
        graph=f"""g (float[N,4] x, bool[1] flush) => ({outputs}) {{
            t = Relu (x)
            y = Mul (t, t)
            a = ort_quant.Observe <key: string = "x"> (x, flush)
            b = ort_quant.Observe <key: string = "t"> (t, flush)
            s = Concat <axis: int = 0> (a, b) }}""",
        graph_optimization_level=getattr(ort.GraphOptimizationLevel, level),
    )
    x = normal(50, 4)
    for feed in ({"x": x}, {"x": x[:7]}, {"x": x, **YES}):
        results = session.run(None, feed)
        np.testing.assert_array_equal(results[0], np.maximum(feed["x"], 0) ** 2)
        if not dangling and "flush" not in feed:
            assert results[1].shape == (0,)
    if not dangling:
        batches = [x, x[:7], x]
        found = {sketch.key: sketch for sketch in Sketch.split(results[1].tobytes())}
        assert found == {"x": sketch_of(batches), "t": sketch_of([np.maximum(b, 0) for b in batches], "t")}


@pytest.mark.parametrize("level", LEVELS)
def test_convolutions_in_the_runtimes_own_layout(observer, level):
    """Beside a convolution the tensor comes out of the blocked layout in the same place, with the same name."""
    ort = onnxruntime_module()
    session = observer(
        graph="""g (float[1,16,32,32] x, float[16,16,3,3] w, bool[1] flush) => (float[1,16,30,30] y, uint8[n] s) {
            t = Conv (x, w)
            y = Relu (t)
            s = ort_quant.Observe <key: string = "t", axis: int = 1> (t, flush) }""",
        graph_optimization_level=getattr(ort.GraphOptimizationLevel, level),
    )
    feed = {"x": normal(1, 16, 32, 32), "w": normal(16, 16, 3, 3, seed=1), **YES}
    y, data = session.run(None, feed)
    sketch = Sketch.from_bytes(data.tobytes())
    assert sketch.count == y.size
    assert sketch.maximum == y.max()
    np.testing.assert_array_equal(np.maximum(sketch.channels.maximum, 0), y.max(axis=(0, 2, 3)))


def test_constant_input_is_observed_at_run_time(observer):
    session = observer(
        graph="""g (float[N] x, bool[1] flush) => (uint8[n] s) {
            c = Constant <value_floats = [1.0, 2.0]> ()
            s = ort_quant.Observe <key: string = "c"> (c, flush) }"""
    )
    for _ in range(3):
        session.run(None, {"x": normal(1)})
    (data,) = session.run(None, {"x": normal(1), **YES})
    assert Sketch.from_bytes(data.tobytes()).count == 8


@pytest.mark.parametrize("mode", ["ORT_SEQUENTIAL", "ORT_PARALLEL"])
def test_runs_at_once(observer, mode):
    ort = onnxruntime_module()
    session = observer(
        graph="""g (float[N] x, bool[1] flush) => (uint8[n] s) {
            y = Neg (x)
            a = ort_quant.Observe <key: string = "x"> (x, flush)
            b = ort_quant.Observe <key: string = "y"> (y, flush)
            s = Concat <axis: int = 0> (a, b) }""",
        execution_mode=getattr(ort.ExecutionMode, mode),
        intra_op_num_threads=2,
    )
    batches = [normal(150000 + i, seed=i) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        feeds = [{"x": x, "flush": np.array([i % 5 == 0])} for i, x in enumerate(batches)]
        outputs = list(pool.map(lambda feed: session.run(None, feed)[0], feeds))
    outputs += session.run(None, {"x": np.zeros(0, F32), **YES})
    sketches = merge(sketch for data in outputs for sketch in Sketch.split(data.tobytes()))
    assert sketches == {"x": sketch_of(batches), "y": sketch_of([-x for x in batches], "y")}


# --- attributes ---------------------------------------------------------------------------------------------------


def test_key(observer):
    for key in ("conv1/Relu:0", "Ausgang é  ", ""):
        session = observer(attributes=f'<key: string = "{key}">')
        assert flushed(session, [normal(5)]).key == key
    assert flushed(observer(), [normal(5)]).key == "x"


def test_a_key_without_room_is_refused(observer):
    with pytest.raises(Exception, match="attribute 'key' has 65536 bytes, expected at most 65535"):
        observer(attributes=f'<key: string = "{"k" * 65536}">')


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize(
    ("axis", "shapes"),
    [
        (1, [(2, 3, 5), (1, 3, 70, 400), (0, 3, 2), (4, 3)]),
        (-1, [(5, 33), (7, 2, 33), (5000, 33), (33,)]),
        (0, [(4, 100), (4,), (4, 0)]),
        (-3, [(2, 1, 1), (2, 40, 1000)]),
    ],
)
def test_channels(observer, isa, dtype, axis, shapes):
    batches = [normal(*shape, seed=i).astype(dtype) for i, shape in enumerate(shapes)]
    for batch in batches[:2]:
        batch.flat[0], batch.flat[1 % batch.size] = np.nan, -np.inf
    batches[1].flat[3] = -0.0
    session = observer(x_type="float" if dtype is F32 else "float16", attributes=f"<axis: int = {axis}>")
    check(session, batches, axis=axis)


def test_channels_without_finite_values(observer):
    session = observer(attributes="<axis: int = 1>")
    check(session, [np.full((2, 3, 2), np.nan, F32)], axis=1)
    check(session, [np.zeros((0, 3), F32)], axis=1)


@pytest.mark.parametrize(("axis", "shape"), [(1, (4,)), (-3, (2, 2)), (0, ())])
def test_axis_that_is_not_there(observer, axis, shape):
    session = observer(attributes=f'<axis: int = {axis}, key: string = "conv">')
    text = ",".join(map(str, shape))
    with pytest.raises(Exception, match=rf"tensor 'conv' has shape \[{text}\], which has no axis {axis}\."):
        session.run(None, {"x": np.zeros(shape, F32)})


def test_another_channel_count(observer):
    session = observer(attributes="<axis: int = -1>")
    session.run(None, {"x": normal(2, 3), **YES})
    with pytest.raises(Exception, match=r"tensor 'x' has shape \[2,4\], expected 3 channels along axis -1 as in"):
        session.run(None, {"x": normal(2, 4)})
    check(session, [normal(5, 3)], axis=-1)  # the refused run did not count


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("axis: float = 1.0", "attribute 'axis' is of type FLOAT, expected INT"),
        ('axis: string = "1"', "attribute 'axis' is of type STRING, expected INT"),
        ("axis: int = 4294967296", "attribute 'axis' is 4294967296, expected an integer in [-2147483648, 2147483647]"),
        ("key: int = 1", "attribute 'key' is of type INT, expected STRING"),
    ],
)
def test_bad_attributes_are_refused(observer, attributes, message):
    with pytest.raises(Exception, match="Observe node 'node_s': ") as caught:
        observer(attributes=f"<{attributes}>")
    assert message in str(caught.value)
