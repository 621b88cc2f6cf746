"""The chain on the shipped digits net, from Python: results, files, reports, and every kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.errors import (
    ArgumentTypeError,
    CalibrationError,
    ConfigError,
    DataError,
    ModelError,
    NumericsError,
    OrtQuantError,
    OutputError,
    RecordError,
    UnsupportedError,
)
from ort_quant_plugin.model import read_model, write_model
from ort_quant_plugin.record import Record

TARGETS = ("fake_quant", "ascend", "ort", "qdq")


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def feed(digits):
    return {read_model(demo_model_path()).graph.inputs[0].name: digits.calibration}


@pytest.fixture(scope="module")
def quantized(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return oq.quantize(
        demo_model_path(), digits.calibration, folder / "digits", targets=TARGETS, batch_size=32, progress=False
    )


def accuracy(run_model, path, digits, level="ORT_DISABLE_ALL"):
    name = read_model(demo_model_path()).graph.inputs[0].name
    (logits,) = run_model(path, {name: digits.evaluation}, level=level).values()
    return float((logits.argmax(axis=1) == digits.labels).mean()), logits


def test_every_layer_is_quantized(quantized):
    assert {layer.op_type for layer in quantized.quantized} == {"Conv", "AveragePool", "Gemm"}
    assert {layer.op_type for layer in quantized.stayed_float} == {"MaxPool", "Add"}
    assert all("tensor_quantize" in layer.reason for layer in quantized.stayed_float)
    assert not any(layer.notes for layer in quantized.layers)


def test_accuracy_is_kept(quantized, digits, run_model):
    """The float net is right on at least 98 % of the held-out digits; int8 may lose half a point."""
    expected, reference = accuracy(run_model, demo_model_path(), digits)
    for target in ("fake_quant", "ort", "qdq"):
        reached, logits = accuracy(run_model, quantized.outputs[target], digits)
        assert reached >= expected - 0.005
        assert (logits.argmax(1) == reference.argmax(1)).mean() >= 0.99


def test_optimized_execution_gives_the_same_classes(quantized, digits, run_model):
    for target in ("fake_quant", "ort", "qdq"):
        plain = accuracy(run_model, quantized.outputs[target], digits)[1]
        optimized = accuracy(run_model, quantized.outputs[target], digits, "ORT_ENABLE_ALL")[1]
        assert (plain.argmax(1) == optimized.argmax(1)).mean() >= 0.995


def test_files_and_report(quantized):
    assert {k: p.name for k, p in quantized.outputs.items()} == {
        "fake_quant": "digits_fake_quant_model.onnx",
        "ascend": "digits_deploy_model.onnx",
        "ort": "digits_ort_model.onnx",
        "qdq": "digits_qdq_model.onnx",
        "info": "digits_quant.json",
    }
    folder = quantized.record.parent
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*(p.name for p in quantized.outputs.values()), "digits_record.txt"]
    )
    document = json.loads(json.dumps(quantized.to_dict()))
    assert document["batches"] == quantized.batches > 1
    assert {report["name"] for report in document["passes"]} >= {"fuse_conv_bn", "fold_constants"}


def test_default_targets(digits, tmp_path):
    report = oq.quantize(demo_model_path(), digits.calibration, tmp_path / "d", batch_size=50, progress=False)
    assert list(report.outputs) == ["fake_quant", "ascend", "ort", "info"]


def test_batch_size_does_not_matter(quantized, digits, tmp_path):
    """IFMR sees all values at once, whatever the batches: same record, bit for bit."""
    one = oq.quantize(
        demo_model_path(),
        digits.calibration,
        tmp_path / "a",
        targets=TARGETS,
        batch_size=len(digits.calibration),
        progress=False,
    )
    assert one.batches == 1
    assert one.record.read_text() == quantized.record.read_text()


def test_hfmg(digits, tmp_path, run_model):
    report = oq.quantize(
        demo_model_path(), digits.calibration, tmp_path / "h", method="hfmg", batch_size=50, progress=False
    )
    assert accuracy(run_model, report.outputs["fake_quant"], digits)[0] >= 0.97


def test_symmetric(digits, tmp_path):
    report = oq.quantize(
        demo_model_path(), digits.calibration, tmp_path / "s", activation_offset=False, batch_size=50, progress=False
    )
    assert {layer.offset_d for layer in report.quantized} == {0}


def test_chosen_layers_stay_float(digits, tmp_path):
    convs = [layer.name for layer in oq.inspect(demo_model_path()).layers if layer.op_type == "Conv"]
    report = oq.quantize(
        demo_model_path(),
        digits.calibration,
        tmp_path / "k",
        skip_layers=convs[:1],
        skip_layer_types=["Gemm"],
        batch_size=50,
        progress=False,
    )
    reasons = {layer.name: layer.reason for layer in report.stayed_float}
    assert "skip_layers" in reasons[convs[0]]
    assert "Gemm" not in {layer.op_type for layer in report.quantized}


@pytest.mark.parametrize("bits", [6, 7])
def test_weights_of_fewer_bits(digits, tmp_path, bits):
    cfg = tmp_path / "w.cfg"
    cfg.write_text(f"common_config {{ arq_quantize {{ quant_bits: {bits} }} }}")
    report = oq.quantize(
        demo_model_path(), digits.calibration, tmp_path / "w", config=cfg, batch_size=50, progress=False
    )
    model = ir.load(report.outputs["ascend"])
    widths = {layer.name: layer.weight_bits for layer in report.quantized if layer.op_type == "Conv"}
    assert set(widths.values()) == {bits}
    for node in model.graph:
        if node.name in widths:
            integers = node.inputs[1].const_value.numpy()
            assert integers.min() >= -(2 ** (bits - 1))
            assert integers.max() <= 2 ** (bits - 1) - 1


def test_progress_events(digits, tmp_path):
    events = []
    oq.quantize(demo_model_path(), digits.calibration, tmp_path / "p", batch_size=50, progress=events.append)
    assert [e.done for e in events] == list(range(1, events[-1].total + 1))


def test_inspect_reads_back_what_was_written(quantized):
    ours = {layer.name: layer for layer in quantized.quantized}
    for target in TARGETS:
        found = {
            layer.name: layer for layer in oq.inspect(quantized.outputs[target]).layers if layer.status == "quantized"
        }
        assert set(found) == set(ours)
        for name, layer in found.items():
            if target != "qdq":  # there, ranges are narrowed to the bounds of a Clip
                assert layer.scale_d == pytest.approx(ours[name].scale_d, rel=1e-6)  # 1/(1/s) in float32
                assert layer.offset_d == ours[name].offset_d


def test_external_data_survives(digits, tmp_path, run_model):
    model = read_model(demo_model_path())
    write_model(model, tmp_path / "in" / "big.onnx", force_external=True)
    report = oq.quantize(
        tmp_path / "in" / "big.onnx", digits.calibration, tmp_path / "out" / "x", batch_size=99, progress=False
    )
    names = {p.suffix for p in (tmp_path / "out").iterdir()}
    assert ".external" in names
    assert any(p.name.endswith("_deploy.external") for p in (tmp_path / "out").iterdir())
    assert any(p.name.endswith("_fakequant.external") for p in (tmp_path / "out").iterdir())
    assert accuracy(run_model, report.outputs["fake_quant"], digits)[0] >= 0.97


# Bad input: a typed error that names the thing and hints the cure, and no file left behind.


def refused(error, match, tmp_path, call):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=match) as caught:
        call()
    assert isinstance(caught.value, OrtQuantError)
    assert caught.value.hint
    assert sorted(tmp_path.rglob("*")) == before


def quantize(tmp_path, model=None, data=None, **choices):
    data = load_digits().calibration if data is None else data
    return lambda: oq.quantize(model or demo_model_path(), data, tmp_path / "out" / "d", progress=False, **choices)


@pytest.mark.parametrize(
    ("choices", "error", "match"),
    [
        ({"skip_layers": ["nowhere"]}, ConfigError, "Layer nowhere does not exist in the graph"),
        ({"skip_layer_types": ["Softmax"]}, ConfigError, "Layer type Softmax does not support quantize"),
        ({"skip_layer_types": ["Conv", "Gemm", "AveragePool"]}, ConfigError, "Except skip_layers, no layer needs"),
        ({"method": "guess"}, ConfigError, "guess"),
        ({"targets": ["gpu"]}, ConfigError, "Unknown target 'gpu'"),
        ({"batch_num": 0}, ConfigError, "batch_num is 0"),
        ({"batch_num": 10_000}, CalibrationError, "batch_num is 10000"),
        ({"config": "missing.json"}, ConfigError, "missing.json"),
        ({"model": "missing.onnx"}, ModelError, "does not exist"),
        ({"data": "missing_folder"}, DataError, "missing_folder"),
        ({"data": np.zeros((4, 3, 8, 8), np.float32)}, DataError, "expected 1"),
        ({"data": np.zeros((4, 1, 8), np.float32)}, DataError, "rank 3"),
        ({"data": np.zeros((4, 1, 8, 8), np.int32)}, DataError, "int32"),
        ({"data": np.full((4, 1, 8, 8), np.nan, np.float32)}, (CalibrationError, DataError), "(?i)nan"),
        ({"data": np.full((4, 1, 8, 8), np.inf, np.float32)}, (CalibrationError, DataError), "(?i)inf"),
    ],
)
def test_bad_choices(tmp_path, choices, error, match):
    refused(error, match, tmp_path, quantize(tmp_path, **choices))


def test_existing_output(quantized, digits):
    folder = quantized.record.parent
    with pytest.raises(OutputError, match="exists already") as caught:
        oq.quantize(demo_model_path(), digits.calibration, folder / "digits", progress=False)
    assert "--force" in caught.value.hint


def test_already_quantized_models(quantized, tmp_path):
    for target in TARGETS:
        model = quantized.outputs[target]
        refused(UnsupportedError, "following quant layers are in the model", tmp_path, quantize(tmp_path, model))


def test_no_quantizable_layer(build, tmp_path):
    text = '<ir_version: 8, opset_import: ["": 13]>\ng (float[N,1,8,8] x) => (float[] y) { y = Relu(x) }'
    write_model(build(text), tmp_path / "relu.onnx")
    refused(ConfigError, "No layer support quantization", tmp_path, quantize(tmp_path, tmp_path / "relu.onnx"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights(tmp_path, value):
    model = read_model(demo_model_path())
    weight = next(n for n in model.graph if n.op_type == "Gemm").inputs[1]
    array = weight.const_value.numpy().copy()
    array.flat[3] = value
    weight.const_value = ir.tensor(array, name=weight.name)
    write_model(model, tmp_path / "broken.onnx")
    refused(NumericsError, "holds 1 NaN or infinite", tmp_path, quantize(tmp_path, tmp_path / "broken.onnx"))


def test_bias_out_of_int32(build, tmp_path):
    text = '<ir_version: 8, opset_import: ["": 13]>\ng (float[N,4] x) => (float[N,2] y) { [fc] y = Gemm(x, w, b) }'
    model = build(text, w=np.full((4, 2), 1e-5, np.float32), b=np.float32([1.0, 1e6]))
    write_model(model, tmp_path / "m.onnx")
    data = np.linspace(-1e-3, 1e-3, 64, dtype=np.float32).reshape(16, 4)
    refused(
        NumericsError,
        "Do bias quantize failed.*'fc'.*channel 1",
        tmp_path,
        quantize(tmp_path, tmp_path / "m.onnx", data),
    )


def steps(tmp_path, **config):
    """The first two AMCT steps; returns what the next ones need."""
    paths = {
        name: str(tmp_path / file) for name, file in (("config", "c.json"), ("model", "m.onnx"), ("record", "r.txt"))
    }
    oq.create_quant_config(paths["config"], str(demo_model_path()), **config)
    oq.quantize_model(paths["config"], str(demo_model_path()), paths["model"], paths["record"])
    return paths


def test_fewer_runs_than_batch_num(tmp_path, feed):
    import onnxruntime as ort

    paths = steps(tmp_path, batch_num=3)
    session = ort.InferenceSession(paths["model"], oq.session_options())
    session.run(None, feed)
    refused(
        RecordError,
        "please check data calibration process",
        tmp_path,
        lambda: oq.save_model(paths["model"], paths["record"], str(tmp_path / "out" / "d")),
    )


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda text: "", "record_file is empty"),
        (lambda text: text[: len(text) // 2], "line"),
        (lambda text: text.replace("scale_d: ", "scale_d: -", 1), "scale_d"),
        (lambda text: text.replace('key: "', 'key: "other_', 1), "other_"),
        (lambda text: text.replace("offset_d: ", "offset_d: 9", 1), "offset_d"),
        (lambda text: "nonsense", "line 1"),
    ],
)
def test_edited_records(tmp_path, feed, edit, match):
    import onnxruntime as ort

    paths = steps(tmp_path)
    ort.InferenceSession(paths["model"], oq.session_options()).run(None, feed)
    record = Path(paths["record"])
    record.write_text(edit(record.read_text()))
    refused(
        RecordError,
        match,
        tmp_path,
        lambda: oq.save_model(paths["model"], paths["record"], str(tmp_path / "out" / "d")),
    )


def test_record_of_another_model(tmp_path, quantized, build):
    text = '<ir_version: 8, opset_import: ["": 13]>\ng (float[N,4] x) => (float[N,2] y) { [fc2] y = Gemm(x, w) }'
    write_model(build(text, w=np.ones((4, 2), np.float32)), tmp_path / "m.onnx")
    config, modified = str(tmp_path / "c.json"), str(tmp_path / "modified.onnx")
    oq.create_quant_config(config, str(tmp_path / "m.onnx"))
    oq.quantize_model(config, str(tmp_path / "m.onnx"), modified, str(tmp_path / "r.txt"))
    refused(
        RecordError,
        "stem_conv",
        tmp_path,
        lambda: oq.save_model(modified, str(quantized.record), str(tmp_path / "out" / "d")),
    )


def test_wrong_argument_types():
    with pytest.raises(ArgumentTypeError, match="Func create_quant_config argument batch_num must be int") as caught:
        oq.create_quant_config("c.json", "m.onnx", batch_num="2")
    assert isinstance(caught.value, TypeError)
    with pytest.raises(TypeError, match="argument batch_num must be int"):
        oq.create_quant_config("c.json", "m.onnx", batch_num=True)


def test_calibrating_a_model_without_observers(digits):
    with pytest.raises(ModelError, match="no calibration nodes"):
        oq.calibrate(demo_model_path(), digits.calibration)


def test_calibrate_and_save_in_steps(tmp_path, digits):
    paths = steps(tmp_path, batch_num=2)
    report = oq.calibrate(paths["model"], digits.calibration, batch_size=40)
    assert report.batches == 2
    exported = oq.save_model(paths["model"], paths["record"], str(tmp_path / "out" / "d"), targets=["ascend"])
    assert set(exported.outputs) == {"ascend", "info"}


def test_updated_model_has_unique_names(build, tmp_path):
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[N,4] x) => (float[] y) { [same] t = MatMul(x, w) [same] u = MatMul(t, v) y = Relu(u) }"""
    write_model(build(text, w=np.ones((4, 4), np.float32), v=np.ones((4, 4), np.float32)), tmp_path / "m.onnx")
    updated = tmp_path / "updated.onnx"
    oq.create_quant_config(str(tmp_path / "c.json"), str(tmp_path / "m.onnx"), updated_model=str(updated))
    names = [node.name for node in read_model(updated).graph]
    assert len(set(names)) == 3
    assert all(names)
    layers = {k for k, v in json.loads((tmp_path / "c.json").read_text()).items() if isinstance(v, dict)}
    assert layers <= set(names)


def test_record_without_output_ranges_holds_amct_entries_only(tmp_path):
    paths = {n: str(tmp_path / n) for n in ("c", "m", "r")}
    oq.create_quant_config(paths["c"], str(demo_model_path()))
    oq.quantize_model(paths["c"], str(demo_model_path()), paths["m"], paths["r"], observe_outputs=False)
    assert not [key for key in Record.read(paths["r"]) if ":" in key]


def test_outputs_that_are_inputs(tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(demo_model_path().read_bytes())
    content = model.read_bytes()
    for call in (
        lambda: oq.create_quant_config(str(model), str(model)),
        lambda: oq.quantize_model("c.json", str(model), str(model), str(tmp_path / "r")),
        lambda: oq.quantize_model("c.json", str(model), str(tmp_path / "x"), str(tmp_path / "x")),
        lambda: oq.prepare_model(model, model, force=True),
    ):
        with pytest.raises(OutputError, match=r"is also an input|named for two outputs"):
            call()
    assert model.read_bytes() == content


def test_saving_from_the_float_model(tmp_path, quantized):
    """Its BatchNormalization is not fused, the recorded scales are those of fused weights."""
    refused(
        ModelError,
        "no calibration nodes",
        tmp_path,
        lambda: oq.save_model(str(demo_model_path()), str(quantized.record), str(tmp_path / "out" / "d")),
    )


def test_ranges_do_not_depend_on_the_targets(quantized, digits, tmp_path):
    """Observing more tensors must not change what ONNX Runtime computes."""
    report = oq.quantize(
        demo_model_path(),
        digits.calibration,
        tmp_path / "f",
        batch_size=32,
        targets=["fake_quant"],
        progress=False,
    )
    few, all_ = Record.read(report.record), Record.read(quantized.record)
    assert {k: (e.scale_d, e.offset_d) for k, e in few.items()} == {
        k: (e.scale_d, e.offset_d) for k, e in all_.items() if k in few
    }


def test_tensor_quantization_of_a_constant(build, tmp_path):
    header = '<ir_version: 8, opset_import: ["": 13]>\n'
    text = header + "g (float[N,4] x) => (float[] y) { [fc] t = Gemm(x, w) [a] y = Add(t, k) }"
    model = build(text, w=np.ones((4, 2), np.float32), k=np.ones((1, 2), np.float32))
    write_model(model, tmp_path / "m.onnx")
    (tmp_path / "t.cfg").write_text('tensor_quantize { layer_name: "a" input_index: 1 }')
    data = np.ones((4, 4), np.float32)
    refused(
        ConfigError,
        "input 1 of 'a' cannot be quantized: it is a constant",
        tmp_path,
        quantize(tmp_path, tmp_path / "m.onnx", data, config=tmp_path / "t.cfg"),
    )


def test_sequences_pass_through(build, tmp_path, run_model, cosine):
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[N,2,4,4] x) => (float[] y) {
        [c] a = Conv(x, w) [s] s = SequenceConstruct(a, a) [k] y = ConcatFromSequence <axis=0>(s) }"""
    write_model(build(text, w=np.ones((2, 2, 1, 1), np.float32)), tmp_path / "m.onnx")
    data = np.random.default_rng(0).normal(size=(4, 2, 4, 4)).astype(np.float32)
    report = oq.quantize(tmp_path / "m.onnx", data, tmp_path / "out", targets=TARGETS, batch_size=4, progress=False)
    for target in ("fake_quant", "ort", "qdq"):
        actual = run_model(report.outputs[target], {"x": data})["y"]
        assert cosine(actual, run_model(tmp_path / "m.onnx", {"x": data})["y"]) > 0.999
