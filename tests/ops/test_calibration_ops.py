from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.ops import reference

F32, F16 = np.float32, np.float16
FINITE_FAILURE = "calibration data has inf/nan value"


def calibration_graph(path, *, op="IFMR", layers=("conv",), x_type="float", dims="[N]", **attributes):
    texts = [f'record_file_path: string = "{path}"', f"layer_num: int = {len(layers)}"]
    texts += [f'object_layer{i}: string = "{layer}"' for i, layer in enumerate(layers)]
    kinds = {int: "int", float: "float", str: "string"}
    for key, value in attributes.items():
        shown = f'"{value}"' if isinstance(value, str) else repr(value)
        texts.append(f"{key}: {kinds[type(value)]} = {shown}")
    return (
        f"g ({x_type}{dims} x) => ({x_type}{dims} y, float[1] s) {{ y = Identity (x) "
        f"s = amct.customop.{op} <{', '.join(texts)}> (x) }}"
    )


def samples(count, seed=0, scale=2.0):
    return np.random.default_rng(seed).normal(0.3, scale, count).astype(F32)


def written(path, layer="conv"):
    lines = path.read_text().split(f'key: "{layer}"\n  value {{\n')[1].splitlines()
    return float(lines[0].split("scale_d: ")[1]), int(lines[1].split("offset_d: ")[1])


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
@pytest.mark.parametrize("with_offset", [0, 1])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_equals_reference(make_session, record_file, isa, op, with_offset, bits):
    path = record_file("conv")
    session = make_session(calibration_graph(path, op=op, with_offset=with_offset, num_bits=bits, batch_num=2))
    batches = [samples(5000, 1), samples(3001, 2, 3.0)]
    outputs = [session.run(["s"], {"x": batch})[0] for batch in batches]
    if op == "IFMR":
        want = reference.ifmr(np.concatenate(batches), asymmetric=bool(with_offset), num_bits=bits)
    else:
        want = reference.hfmg(batches, asymmetric=bool(with_offset), num_bits=bits)
    assert outputs[0].tolist() == [0]  # not known before the last run
    assert outputs[1][0] == want[0]
    assert written(path) == (float(f"{want[0]:.10g}"), want[1])


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
def test_half_precision_input(make_session, record_file, op):
    path = record_file("conv")
    x = samples(3000).astype(F16)
    (scale,) = make_session(calibration_graph(path, op=op, x_type="float16")).run(["s"], {"x": x})
    want = reference.ifmr(x) if op == "IFMR" else reference.hfmg([x.astype(F32)])
    assert scale[0] == want[0]
    assert "op_data_type: 'FLOAT16'" in path.read_text()


def test_search_attributes_are_used(make_session, record_file):
    path = record_file("conv")
    graph = calibration_graph(
        path, start_ratio=0.8, end_ratio=1.2, step=0.02, max_percentile=0.999, min_percentile=0.99, with_offset=0
    )
    (scale,) = make_session(graph).run(["s"], {"x": samples(20000)})
    want, _ = reference.ifmr(
        samples(20000),
        search_range=(0.8, 1.2),
        search_step=0.02,
        max_percentile=0.999,
        min_percentile=0.99,
        asymmetric=False,
    )
    assert scale[0] == want


@pytest.mark.parametrize(("start", "end", "step"), [(0.7, 0.9, 0.2), (0.2, 1.2, 1.0), (0.7, 1.3, 0.6)])
def test_a_step_as_long_as_the_range(make_session, record_file, start, end, step):
    """Legal although 0.9 − 0.7 is less than 0.2 in float32."""
    graph = calibration_graph(record_file("conv"), start_ratio=start, end_ratio=end, step=step)
    (scale,) = make_session(graph).run(["s"], {"x": samples(500)})
    assert scale[0] == reference.ifmr(samples(500), search_range=(start, end), search_step=step)[0]


def test_bins_are_used(make_session, record_file):
    session = make_session(calibration_graph(record_file("conv"), op="HFMG", nbins=1024))
    (scale,) = session.run(["s"], {"x": samples(9999)})
    assert scale[0] == reference.hfmg([samples(9999)], num_of_bins=1024)[0]


def test_exact_text(make_session, record_file, entry):
    path = record_file("a", "conv", "b")
    graph = calibration_graph(path, fakequant_precision_mode="FORCE_FP16_QUANT", op="HFMG", with_offset=0, num_bits=16)
    make_session(graph).run(None, {"x": np.array([0.0, 32767.0], F32)})
    scale, _ = reference.hfmg([np.array([0.0, 32767.0], F32)], asymmetric=False, num_bits=16)
    assert path.read_text() == entry("a") + entry(
        "conv",
        f"scale_d: {scale:.10g}",
        "offset_d: 0",
        'act_type: "INT16"',
        "op_data_type: 'FLOAT32'",
        "fakequant_precision_mode: 'FORCE_FP16_QUANT'",
    ) + entry("b")


def test_runs_after_the_last_batch_change_nothing(make_session, record_file):
    path = record_file("conv")
    session = make_session(calibration_graph(path))
    (first,) = session.run(["s"], {"x": samples(100)})
    text = path.read_text()
    (later,) = session.run(["s"], {"x": samples(100) * 50})
    assert later == first
    assert path.read_text() == text


def test_nothing_is_written_before_the_last_batch(make_session, record_file):
    path = record_file("conv")
    text = path.read_text()
    session = make_session(calibration_graph(path, batch_num=3))
    for _ in range(2):
        session.run(None, {"x": samples(100)})
    assert path.read_text() == text


def test_a_second_calibration_replaces_the_first(make_session, record_file):
    path = record_file("conv")
    make_session(calibration_graph(path)).run(None, {"x": samples(100)})
    make_session(calibration_graph(path)).run(None, {"x": samples(100) * 2})
    assert path.read_text().count("scale_d") == path.read_text().count("act_type") == 1
    assert written(path)[0] == pytest.approx(float(reference.ifmr(samples(100) * 2)[0]), rel=1e-9)


def test_several_layers_of_one_tensor(make_session, record_file):
    path = record_file("a/conv", "pool:0", "other")
    make_session(calibration_graph(path, layers=("a/conv", "pool:0"))).run(None, {"x": samples(100)})
    assert written(path, "a/conv") == written(path, "pool:0")
    assert path.read_text().count("scale_d") == 2


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
@pytest.mark.parametrize(("bad", "counts"), [(np.nan, "1 NaN and 0"), (-np.inf, "0 NaN and 1")])
def test_non_finite_data_is_refused_and_does_not_count(make_session, record_file, op, bad, counts):
    path = record_file("conv")
    session = make_session(calibration_graph(path, op=op))
    x = samples(100)
    x[70] = bad
    with pytest.raises(Exception, match=f"{op} node 'node_s': {op} {FINITE_FAILURE}") as caught:
        session.run(None, {"x": x})
    message = str(caught.value)
    assert f"layer 'conv' (tensor 'x') holds {counts} infinite of 100 values" in message
    session.run(None, {"x": samples(100)})
    assert "scale_d" in path.read_text()


def test_absurd_magnitude_is_refused(make_session, record_file):
    with pytest.raises(Exception, match=r"cannot be calibrated: its values give the scale .* expected at most 1/FLT"):
        make_session(calibration_graph(record_file("conv"))).run(None, {"x": np.array([1e12, -1e12], F32)})


def test_range_beyond_float32_names_the_layer_and_does_not_count(make_session, record_file):
    path = record_file("conv")
    session = make_session(calibration_graph(path, op="HFMG", batch_num=2))
    session.run(None, {"x": samples(100)})
    with pytest.raises(Exception, match="HFMG node 'node_s': layer 'conv'") as caught:
        session.run(None, {"x": np.array([-3e38, 3e38], F32)})
    assert "layer 'conv' (tensor 'x') cannot be calibrated: its values span from -3" in str(caught.value)
    (scale,) = session.run(["s"], {"x": samples(100, 1)})
    assert scale[0] == reference.hfmg([samples(100), samples(100, 1)])[0]


@pytest.mark.parametrize(
    ("op", "with_offset", "want"),
    [
        ("IFMR", 0, (1.0, 0)),
        ("IFMR", 1, (1.0, -128)),
        ("HFMG", 0, (pytest.approx(1e-5 / 127, rel=1e-5), 0)),
        # 4096 bins this narrow all count in the middle one; the first candidate, right of the middle, costs nothing.
        ("HFMG", 1, (pytest.approx(1e-5 / 255, rel=1e-5), -128)),
    ],
)
def test_narrow_data(make_session, record_file, op, with_offset, want):
    """Scales below float32's epsilon become 1 in IFMR; HFMG goes down to float64's."""
    from ort_quant_plugin.record import Record

    path = record_file("conv")
    x = np.linspace(-1e-5, 1e-5, 1001, dtype=F32)
    (scale,) = make_session(calibration_graph(path, op=op, with_offset=with_offset)).run(["s"], {"x": x})
    assert written(path) == want
    assert Record.read(path)["conv"].scale_d == scale[0]
    oracle = reference.ifmr if op == "IFMR" else lambda data, **options: reference.hfmg([data], **options)
    assert (scale[0], written(path)[1]) == oracle(x, asymmetric=bool(with_offset))


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
def test_empty_tensors_count_as_runs(make_session, record_file, op):
    path = record_file("conv")
    session = make_session(calibration_graph(path, op=op, batch_num=2))
    session.run(None, {"x": samples(100)})
    (scale,) = session.run(["s"], {"x": np.zeros(0, F32)})
    want = reference.ifmr(samples(100)) if op == "IFMR" else reference.hfmg([samples(100)])
    assert scale[0] == want[0]


def test_only_empty_tensors(make_session, record_file):
    with pytest.raises(Exception, match=r"layer 'conv' \(tensor 'x'\) had no values in 1 runs"):
        make_session(calibration_graph(record_file("conv"))).run(None, {"x": np.zeros(0, F32)})


def test_scalars_and_zeros(make_session, record_file):
    path = record_file("conv")
    make_session(calibration_graph(path, dims="")).run(None, {"x": np.array(0.0, F32)})
    assert written(path) == (1.0, -128)


def test_missing_record_file(make_session, tmp_path):
    session = make_session(calibration_graph(tmp_path / "none.txt"))
    for _ in range(2):  # not silent the second time either
        with pytest.raises(Exception, match=r"cannot open the record file .*none\.txt: No such file"):
            session.run(None, {"x": samples(10)})


def test_missing_entry(make_session, record_file):
    path = record_file("other")
    before = path.read_text()
    with pytest.raises(Exception, match=r'IFMR node \'node_s\': Cannot find "conv" in record file'):
        make_session(calibration_graph(path)).run(None, {"x": samples(10)})
    assert path.read_text() == before


def test_a_late_record_file_is_written_by_the_next_run(make_session, record_file, tmp_path):
    session = make_session(calibration_graph(tmp_path / "record.txt"))
    with pytest.raises(Exception, match="cannot open the record file"):
        session.run(None, {"x": samples(100)})
    path = record_file("conv")
    session.run(None, {"x": samples(100) * 9})
    assert written(path)[0] == pytest.approx(float(reference.ifmr(samples(100))[0]), rel=1e-9)


def test_check_criterion(make_session, record_file):
    session = make_session(calibration_graph(record_file("conv"), dims="[N,C]", check_criterion=1))
    with pytest.raises(Exception, match=r"has shape \[2,3\], expected 1 as first dimension"):
        session.run(None, {"x": np.ones((2, 3), F32)})
    session.run(None, {"x": np.ones((1, 3), F32)})


def test_initial_state(make_session, record_file):
    path = record_file("rnn")
    make_session(calibration_graph(path, layers=("rnn",), input_stamp="initial_h")).run(None, {"x": samples(50)})
    assert [line.split(":")[0].strip() for line in path.read_text().splitlines()[3:5]] == ["scale_h", "offset_h"]


def test_dump(make_session, record_file, tmp_path):
    session = make_session(
        calibration_graph(
            record_file("a/conv"), layers=("a/conv",), dims="[N,C]", batch_num=2, need_dump=1, dump_dir=str(tmp_path)
        )
    )
    x = samples(6).reshape(2, 3)
    for factor in (1, 2, 3):
        session.run(None, {"x": x * F32(factor)})
    names = sorted(p.name for p in tmp_path.glob("*.bin"))
    assert names == ["a_conv_act_calibration_layer_0.bin", "a_conv_act_calibration_layer_1.bin"]
    content = np.fromfile(tmp_path / names[1], F32)
    np.testing.assert_array_equal(content, np.concatenate([[2, 2, 3], 2 * x.ravel()]).astype(F32))


def test_dump_folder_missing(make_session, record_file, tmp_path):
    session = make_session(calibration_graph(record_file("conv"), need_dump=1, dump_dir=str(tmp_path / "none")))
    with pytest.raises(Exception, match=r"cannot write the dump file .*none/conv_act_calibration_layer_0\.bin"):
        session.run(None, {"x": samples(6)})


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"batch_num": 0}, "attribute 'batch_num' is 0, expected an integer in [1, "),
        ({"num_bits": 1}, "attribute 'num_bits' is 1, expected an integer in [2, 16]"),
        ({"with_offset": 2}, "attribute 'with_offset' is 2, expected an integer in [0, 1]"),
        ({"max_percentile": 0.5}, "attribute 'max_percentile' is 0.5, expected a number in (0.5, 1]"),
        ({"min_percentile": 1.5}, "attribute 'min_percentile' is 1.5"),
        ({"start_ratio": 1.5}, "attribute 'start_ratio' is 1.5, expected 0 < start_ratio < end_ratio"),
        ({"start_ratio": -0.5}, "attribute 'start_ratio' is -0.5"),
        ({"step": 0.0}, "attribute 'step' is 0, expected 0 < step"),
        ({"step": 1e-9}, "at most 100000 steps"),
        ({"step": 0.60001}, "attribute 'step' is 0.60001, expected 0 < step <= end_ratio − start_ratio ("),
        ({"input_stamp": "weight"}, "attribute 'input_stamp' is \"weight\", expected data or initial_h"),
        ({"need_dump": 1}, "attribute 'dump_dir' is missing"),
        ({"op": "HFMG", "nbins": 0}, "attribute 'nbins' is 0"),
        ({"layers": ()}, "attribute 'layer_num' is 0"),
        ({"layers": ("a", "")}, "attribute 'object_layer1' is missing, expected a non-empty STRING"),
    ],
)
def test_bad_attributes_are_refused(make_session, record_file, attributes, message):
    with pytest.raises(Exception, match="node 'node_s': ") as caught:
        make_session(calibration_graph(record_file("conv"), **attributes))
    assert message in str(caught.value)


def test_record_file_path_is_required(make_session):
    graph = 'g (float[N] x) => (float[1] s) { s = amct.customop.IFMR <object_layer0: string = "a"> (x) }'
    with pytest.raises(Exception, match="attribute 'record_file_path' is missing"):
        make_session(graph)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_dangling_node_runs_at_every_level(make_session, record_file, level):
    import onnxruntime as ort

    path = record_file("conv")
    graph = calibration_graph(path).replace(", float[1] s)", ")")
    session = make_session(graph, graph_optimization_level=getattr(ort.GraphOptimizationLevel, level))
    session.run(None, {"x": samples(100)})
    assert "scale_d" in path.read_text()


def test_constant_input_is_observed_at_run_time_not_folded(make_session, record_file):
    path = record_file("conv")
    graph = calibration_graph(path).replace("> (x) }", "> (c) }")
    session = make_session(graph.replace("(x) s =", "(x) c = Constant <value_floats = [1.0, 2.0]> () s ="))
    assert "scale_d" not in path.read_text()
    session.run(None, {"x": samples(3)})
    assert written(path)[0] == pytest.approx(float(reference.ifmr([1.0, 2.0])[0]), rel=1e-9)


@pytest.mark.parametrize(
    ("start", "end", "step", "last"), [(0.7, 1.3, 0.01, 59), (0.8, 1.2, 0.01, 40), (0.7, 1.3, 0.02, 29)]
)
def test_last_candidate(make_session, record_file, start, end, step, last):
    """AMCT counts candidates in float32 and truncates: 0.7 … 1.3 by 0.01 ends at 1.29.

    With the bound at the 60th percentile a wider range is always better, so the last candidate wins.
    """
    graph = calibration_graph(record_file("conv"), start_ratio=start, end_ratio=end, step=step, max_percentile=0.6)
    (scale,) = make_session(graph).run(["s"], {"x": np.arange(1000, dtype=F32)})
    ratio = F32(start) + F32(last) * F32(step)
    assert scale[0] == ratio * F32(600) / F32(255)
