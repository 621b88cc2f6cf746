"""Size and latency ratios, the worst layer, plugins' functions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.calibration.data import open_data
from ort_quant_plugin.comparison import compare
from ort_quant_plugin.errors import ConfigError, DataError, ModelError
from ort_quant_plugin.gates.evaluate import Evaluator
from ort_quant_plugin.gates.metrics import gate_metrics, metric_named
from ort_quant_plugin.gates.metrics.base import Batch
from ort_quant_plugin.gates.metrics.functions import FunctionMetric
from ort_quant_plugin.gates.model_files import model_facts
from ort_quant_plugin.model import input_specs, read_model, write_model


def test_size_ratio(gate, digits):
    found = Evaluator().measure(gate("size_ratio", "ort", data=None))
    sizes = [Path(path).stat().st_size for path in (digits.ort, digits.float)]
    assert found.value == sizes[0] / sizes[1]
    assert (found.reference, found.samples, found.higher_is_better) == (1.0, 0, False)
    assert found.details == {"bytes": sizes[0], "reference_bytes": sizes[1]}


def test_external_data_counts_and_is_part_of_the_digest(tmp_path, digits):
    path = tmp_path / "big.onnx"
    write_model(read_model(digits.float), path, force_external=True)
    files = [file for file in tmp_path.iterdir() if file != path]
    facts = model_facts(path)
    assert files
    assert facts.bytes == path.stat().st_size + sum(file.stat().st_size for file in files)
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    assert model_facts(path).sha256 != facts.sha256


def test_latency_ratio_finds_the_slower_model(build, tmp_path, gate):
    """Eight matrix products against one; the models are otherwise the same."""
    rng = np.random.default_rng(0)
    for name, count in (("one", 1), ("eight", 8)):
        steps = " ".join(f"h{i + 1} = MatMul(h{i}, w)" for i in range(count))
        write_model(
            build(
                f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N, 256] x) => (float[N, 256] y)
                {{ h0 = Identity(x) {steps} y = Identity(h{count}) }}""",
                w=rng.normal(size=(256, 256)).astype(np.float32) / 16,
            ),
            tmp_path / f"{name}.onnx",
        )
    data = rng.normal(size=(64, 256)).astype(np.float32)
    found = Evaluator().measure(
        gate("latency_ratio", batch_size=64, rounds=4),
        model=tmp_path / "eight.onnx", reference=tmp_path / "one.onnx", data=data,
    )  # fmt: skip
    assert found.value > 2
    assert (found.samples, len(found.value_rows)) == (4, 4)
    assert found.value == pytest.approx(math.exp(np.mean(found.value_rows)))
    assert found.details["milliseconds"] > found.details["reference_milliseconds"] > 0


def test_layer_sqnr_is_the_worst_of_compare(gate, digits):
    import ort_quant_plugin as oq
    from ort_quant_plugin.model import input_specs

    data = oq.open_data(digits.data, input_specs(read_model(digits.float)))
    report = oq.compare(digits.float, [digits.qdq], data, layers=True)
    worst = report.candidates[0].layers[0]
    found = Evaluator().measure(gate("layer_sqnr", "qdq"))
    assert found.value == pytest.approx(worst.error.sqnr_db)
    assert found.details["worst_layer"] == worst.name
    assert found.samples == 200


def test_layer_sqnr_of_an_ort_model_is_that_of_its_sibling(gate, digits, tmp_path):
    found = Evaluator().measure(gate("layer_sqnr", "ort"))
    assert found.value == Evaluator().measure(gate("layer_sqnr")).value
    assert found.details["measured_in"] == Path(digits.fake_quant).name
    alone = tmp_path / "alone_ort_model.onnx"
    alone.write_bytes(Path(digits.ort).read_bytes())
    with pytest.raises(DataError, match="no quantized layer that can be told apart"):
        Evaluator().measure(gate("layer_sqnr"), model=alone)


def test_spearman_of_rankers_looks_across_samples(build, tmp_path, gate):
    """One score per sample: y = x against y = −x."""
    for name, factor in (("up", 1), ("down", -1)):
        text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Mul(x, w) }"""
        write_model(build(text, w=np.float32(factor)), tmp_path / f"{name}.onnx")
    data = [np.array([3, 1], np.float32), np.array([2, 5], np.float32)]
    found = Evaluator().measure(
        gate("spearman"), model=tmp_path / "down.onnx", reference=tmp_path / "up.onnx", data=data
    )
    assert (found.value, found.samples, found.value_rows) == (-1, 4, None)
    assert found.details == {"ranks": "across samples"}


def test_spearman_of_classifiers_looks_within_samples(gate):
    found = Evaluator().measure(gate("spearman"))
    assert found.details == {"ranks": "within samples"}
    assert 0.9 < found.value < 1
    assert np.shape(found.value_rows) == (200, 1)


def test_max_error_names_the_sample(gate, digits, run_model):
    samples = np.load(digits.data)
    outputs = [run_model(path, {"image": samples})["logits"] for path in (digits.float, digits.fake_quant)]
    errors = np.abs(outputs[0].astype(np.float64) - outputs[1]).max(axis=1)
    found = Evaluator().measure(gate("max_error"))
    assert found.value == pytest.approx(errors.max(), abs=1e-5)  # the runtime's fusions move the last bits
    assert found.details == {"worst_sample": f"data.npy[{errors.argmax()}]"}


def test_a_function_is_a_metric():
    def closeness(reference, candidate):
        """How close it is. In a unit of its own."""
        assert reference.shape == candidate.shape == (1, 2)
        return float(np.abs(reference - candidate).sum())

    closeness.higher_is_better = False
    metric = FunctionMetric("closeness", closeness)
    reference, candidate = np.zeros((2, 2), np.float32), np.array([[1, 2], [0, 4]], np.float32)
    rows = metric.rows(Batch(0, 2, ["a", "b"], None, {"y": reference}), {"y": candidate})
    assert rows.tolist() == [[3], [4]]
    assert (metric.summary, metric.higher_is_better) == ("How close it is. In a unit of its own", False)


def test_metrics_by_name():
    assert set(gate_metrics()) >= {"top1", "agreement", "sqnr_db", "box_map", "char_accuracy", "bit_equal"}
    for name, metric in gate_metrics().items():
        assert (metric.name, metric.summary[:1] != "") == (name, True)
        assert metric.unit in {"share", "dB", "ratio", ""}
    with pytest.raises(ConfigError, match=r"no gate metric 'topp1'.*top1") as error:
        metric_named("topp1")
    assert "Did you mean 'top1'?" in error.value.hint


def test_own_errors_leave_out_what_a_layer_is_given(damaged, digits):
    """Everything behind a broken layer is wrong, but by itself only that layer is."""
    from ort_quant_plugin.calibration.data import open_data
    from ort_quant_plugin.comparison_layers import compare_layers
    from ort_quant_plugin.model import input_specs

    data = open_data(digits.data, input_specs(read_model(digits.float)), batch_size=50)
    found = [
        {layer.name: layer for layer in compare_layers(digits.float, path, data, own=True)[0]}
        for path in (digits.fake_quant, damaged("residual1_conv"))
    ]
    sound, broken = found
    assert broken["residual2_conv"].error.noise_to_signal > 0.1
    assert broken["residual1_conv"].own.noise_to_signal > 0.5
    for name in set(sound) - {"residual1_conv"}:
        assert broken[name].own == sound[name].own
        assert broken[name].own.noise_to_signal < 0.01
    first = sound["stem_conv"]
    assert first.own.sum_dd == pytest.approx(first.error.sum_dd, rel=1e-6), "nothing lies before it"


def test_layer_sqnr_does_not_measure_another_model(gate, digits, tmp_path):
    """The ort model is damaged; the simulation beside it is not."""
    (tmp_path / "net_fake_quant_model.onnx").write_bytes(Path(digits.fake_quant).read_bytes())
    path = tmp_path / "net_ort_model.onnx"
    model = read_model(digits.ort)
    scales = [value for value in model.graph.initializers.values() if value.const_value.dtype.name == "FLOAT"]
    for value in scales:
        value.const_value = ir.tensor(2 * value.const_value.numpy(), name=value.name)
    write_model(model, path)
    assert Evaluator().measure(gate("sqnr_db", str(path))).value < 20
    with pytest.raises(ModelError, match=r"net_fake_quant_model\.onnx' beside it has other outputs"):
        Evaluator().measure(gate("layer_sqnr", str(path)))
    data = open_data(digits.data, input_specs(read_model(digits.float)), batch_size=50)
    with pytest.raises(ModelError, match="it is not the same model"):
        compare(digits.float, [path], data, layers=True)


@pytest.mark.parametrize("batch_size", [10, 25, 200])
def test_layer_sqnr_is_of_the_samples_that_count(gate, digits, batch_size):
    """Also where they end inside of a batch."""
    found = Evaluator().measure(gate("layer_sqnr", max_samples=10, batch_size=batch_size))
    first = Evaluator().measure(gate("layer_sqnr", batch_size=10), data=np.load(digits.data)[:10])
    assert (found.value, found.samples) == (pytest.approx(first.value), 10)


def test_a_layer_that_gives_nan_in_both_models_is_the_worst(gate, build, tmp_path):
    weights = np.full((4, 2), np.nan, np.float32)
    interface = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 2] y)'
    write_model(build(f"{interface} {{ [mm] y = MatMul(x, w) }}", w=weights), tmp_path / "float.onnx")
    quantized = "{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) [mm] y = MatMul(d, w) }"
    constants = {"w": weights, "s": np.float32(0.1), "z": np.int8(0)}
    write_model(build(f"{interface} {quantized}", **constants), tmp_path / "qdq.onnx")
    given = {"model": tmp_path / "qdq.onnx", "reference": tmp_path / "float.onnx", "data": np.ones((3, 4), np.float32)}
    assert Evaluator().measure(gate("layer_sqnr"), **given).value == -math.inf
