from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.ops import reference

F32, F16 = np.float32, np.float16
ROWS = np.array([[100, -101, 7], [70000, -123457, 33333], [5000000, -4000001, 1234567]], F32)


def search_graph(path, op="SearchN", batch_num=1, x_type="float"):
    return (
        f"g ({x_type}[C,N] y, float[D] scale_d, float[W] scale_w) => ({x_type}[C,N] z) {{ z = Identity (y) "
        f'none = amct.customop.{op} <record_file_path: string = "{path}", object_layer0: string = "conv", '
        f"batch_num: int = {batch_num}> (y, scale_d, scale_w) }}"
    )


def field(path, name):
    return [line.split(": ")[1] for line in path.read_text().splitlines() if line.strip().startswith(f"{name}:")]


def feeds(y, scale_d=1.0, scale_w=(1.0,)):
    return {"y": y, "scale_d": np.atleast_1d(F32(scale_d)), "scale_w": np.array(scale_w, F32)}


@pytest.mark.parametrize("op", ["SearchN", "SearchNv2"])
def test_published_shifts(run_op, record_file, op):
    path = record_file("conv")
    run_op(search_graph(path, op), feeds(ROWS, 1.0, [1, 1, 1]))
    assert field(path, "shift_bit") == ["1", "2", "8"]


def test_search_n_waits_for_the_scale(make_session, record_file):
    path = record_file("conv")
    session = make_session(search_graph(path, batch_num=2))
    y = np.random.default_rng(0).normal(0, 3e4, (3, 500)).astype(F32)
    session.run(None, feeds(y, 0.0, [0.1, 0.2, 0.4]))
    assert not field(path, "shift_bit")
    session.run(None, feeds(2 * y, 0.5, [0.1, 0.2, 0.4]))
    want = reference.search_n([y, 2 * y], 0.5, [0.1, 0.2, 0.4])
    assert field(path, "shift_bit") == [str(n) for n in want]


def test_search_n_v2_uses_the_runs_with_a_scale(make_session, record_file):
    path = record_file("conv")
    session = make_session(search_graph(path, "SearchNv2", batch_num=2))
    session.run(None, feeds(ROWS * 1000, 0.0, [1, 1, 1]))
    session.run(None, feeds(ROWS, 1.0, [1, 1, 1]))
    assert field(path, "shift_bit") == ["1", "2", "8"]


def test_one_shift_for_the_tensor(run_op, record_file):
    path = record_file("conv")
    run_op(search_graph(path), feeds(ROWS))
    assert field(path, "shift_bit") == [str(n) for n in reference.search_n([ROWS], 1.0, [1.0])]


def test_half_precision(run_op, record_file):
    path = record_file("conv")
    y = np.random.default_rng(0).normal(0, 3e3, (2, 100)).astype(F16)
    run_op(search_graph(path, x_type="float16"), feeds(y, 0.01, [1, 2]))
    assert field(path, "shift_bit") == [str(n) for n in reference.search_n([y], 0.01, [1, 2])]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (feeds(ROWS, 1.0, [1, 1]), "input 'scale_w' has 2 values, expected 1 or 3"),
        (feeds(ROWS, 0.0), "scale_d·scale_w of channel 0 is 0, expected a finite number > 0"),
        (feeds(ROWS, np.nan), "scale_d·scale_w of channel 0 is nan"),
        (feeds(ROWS * np.nan), "SearchN calibration data has inf/nan value: layer 'conv' (tensor 'y') holds 9 NaN"),
        ({**feeds(ROWS), "scale_d": np.ones(2, F32)}, "input 'scale_d' has shape [2], expected [1]"),
    ],
)
def test_bad_inputs_are_refused(run_op, record_file, values, message):
    path = record_file("conv")
    with pytest.raises(Exception, match="SearchN node ") as caught:
        run_op(search_graph(path), values)
    assert message in str(caught.value)
    assert not field(path, "shift_bit")


def test_v2_without_any_scale(run_op, record_file):
    with pytest.raises(Exception, match="no run had values and a known scale_d"):
        run_op(search_graph(record_file("conv"), "SearchNv2"), feeds(ROWS, 0.0))


@pytest.mark.parametrize("op", ["SearchN", "SearchNv2"])
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (3, 4)])
def test_no_weight_scales(run_op, record_file, op, shape):
    with pytest.raises(Exception, match=f"{op} node 'node_none': input 'scale_w' has 0 values, expected 1 or one per"):
        run_op(search_graph(record_file("conv"), op), feeds(np.ones(shape, F32), 1.0, []))


@pytest.mark.parametrize("op", ["SearchN", "SearchNv2"])
@pytest.mark.parametrize(("shape", "scale_w"), [((0, 5), [1]), ((3, 0), [1, 1, 1]), ((0, 0), [1])])
def test_empty_feature_maps(make_session, record_file, op, shape, scale_w):
    path = record_file("conv")
    empty = feeds(np.ones(shape, F32), 1.0, scale_w)
    with pytest.raises(Exception, match=f"{op} node 'node_none': no run had values and a known scale_d"):
        make_session(search_graph(path, op)).run(None, empty)
    session = make_session(search_graph(path, op, batch_num=2))
    session.run(None, empty)
    session.run(None, feeds(ROWS, 1.0, [1, 1, 1]))
    assert field(path, "shift_bit") == ["1", "2", "8"]


def test_fed_by_ifmr(run_op, record_file):
    """The calibration model of joint_quant: scale_d comes from the IFMR node of the same run."""
    path = record_file("conv")
    graph = f"""g (float[C,N] y, float[W] scale_w) => (float[1] s) {{
        s = amct.customop.IFMR <record_file_path: string = "{path}", object_layer0: string = "conv"> (y)
        none = amct.customop.SearchN <record_file_path: string = "{path}", object_layer0: string = "conv">
            (y, s, scale_w) }}"""
    (scale,) = run_op(graph, {"y": ROWS, "scale_w": np.array([1e-3], F32)})
    assert field(path, "shift_bit") == [str(n) for n in reference.search_n([ROWS], scale[0], [1e-3])]
    assert len(field(path, "scale_d")) == 1


ACTIVATION = np.array([[1, -4], [0.5, 0.25], [0, 0], [3, 1]], F32)
WEIGHT = np.array([[0.5, 0.1], [0.2, -2], [1, 0.5], [0, 0]], F32)


def dmq_graph(path, attributes="", x_type="float"):
    return (
        f"g ({x_type}[C,N] a, {x_type}[D,M] w) => ({x_type}[C,N] z) {{ z = Identity (a) "
        f'none = amct.customop.DMQBalancer <record_file_path: string = "{path}", '
        f'object_layer: string = "conv"{attributes}> (a, w) }}'
    )


@pytest.mark.parametrize("x_type", ["float", "float16"])
def test_dmq_published_factors(run_op, record_file, x_type):
    path = record_file("conv")
    dtype = F32 if x_type == "float" else F16
    a, w = ACTIVATION.astype(dtype), WEIGHT.astype(dtype)
    run_op(dmq_graph(path, ", migration_strength: float = 0.5, channel_num: int = 4", x_type), {"a": a, "w": w})
    got = [F32(v) for v in field(path, "tensor_balance_factor")]
    np.testing.assert_allclose(got, reference.dmq_balancer(a, w), rtol=2e-7)
    if dtype is F32:
        np.testing.assert_allclose(got, [2.82842708, 0.5, 1.41421354, 2.12132049], rtol=1e-9 + 2**-23)


def test_dmq_overwrites(make_session, record_file):
    path = record_file("conv")
    session = make_session(dmq_graph(path))
    for factor in (1, 4):
        session.run(None, {"a": ACTIVATION * factor, "w": WEIGHT})
    got = [F32(v) for v in field(path, "tensor_balance_factor")]
    np.testing.assert_allclose(got, reference.dmq_balancer(ACTIVATION * 4, WEIGHT), rtol=2e-7)


def test_dmq_key_with_trailing_blanks(make_session, record_file, entry):
    path = record_file("conv", "conv  ")
    make_session(dmq_graph(path), rename={"conv": "conv  "}).run(None, {"a": ACTIVATION, "w": WEIGHT})
    assert path.read_text().startswith(entry("conv"))
    assert len(field(path, "tensor_balance_factor")) == 4


@pytest.mark.parametrize(
    ("attributes", "a", "w", "message"),
    [
        (", migration_strength: float = 0.9", ACTIVATION, WEIGHT, "attribute 'migration_strength' is 0.9"),
        (", channel_num: int = 3", ACTIVATION, WEIGHT, "input 'a' has shape [4,2], expected channel_num = 3"),
        ("", ACTIVATION, WEIGHT[:3], "activation 'a' has 4 channels and weight 'w' 3"),
        ("", ACTIVATION + F32(np.inf), WEIGHT, "(tensor 'a')"),
        ("", ACTIVATION * 1e30, WEIGHT, "layer 'conv' cannot be balanced: channel 0 gets the balance factor"),
    ],
)
def test_dmq_refuses(run_op, record_file, attributes, a, w, message):
    with pytest.raises(Exception, match="DMQBalancer node ") as caught:
        run_op(dmq_graph(record_file("conv"), attributes), {"a": a.astype(F32), "w": w})
    assert message in str(caught.value)
