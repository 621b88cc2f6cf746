"""The evaluator: what it measures, how often it runs models, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from ort_quant_plugin.errors import ConfigError, DataError, ModelError
from ort_quant_plugin.gates.evaluate import Evaluator
from ort_quant_plugin.gates.measurement import Measurement
from ort_quant_plugin.model import read_model, write_model


class CountedData:
    """Batches of the digits, counting how often they are read."""

    def __init__(self, path: str, size: int = 50) -> None:
        self.samples = np.load(path)
        self.size = size
        self.passes = 0

    def __len__(self) -> int:
        return math.ceil(len(self.samples) / self.size)

    def __call__(self) -> CountedData:
        return self

    def __iter__(self):
        self.passes += 1
        for start in range(0, len(self.samples), self.size):
            yield {"image": self.samples[start : start + self.size]}


def test_top1_of_both_models(gate, digits, run_model):
    """Against a plain count over the outputs of plain sessions."""
    samples, labels = np.load(digits.data), np.load(digits.labels)
    hits = [
        float((run_model(path, {"image": samples})["logits"].argmax(axis=1) == labels).mean())
        for path in (digits.fake_quant, digits.float)
    ]
    found = Evaluator().measure(gate("top1"))
    assert [found.value, found.reference] == hits
    assert (found.samples, found.unit, found.kind, found.binary) == (200, "share", "own", True)
    assert np.mean(found.value_rows) == pytest.approx(found.value)
    assert np.mean(found.reference_rows) == pytest.approx(found.reference)
    assert found.environment["onnxruntime"]
    assert found.models["model"]["sha256"] == hashlib.sha256(Path(digits.fake_quant).read_bytes()).hexdigest()
    assert found.models["reference"]["bytes"] == Path(digits.float).stat().st_size
    assert Measurement.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_a_gate_without_reference_measures_the_model_alone(gate):
    found = Evaluator().measure(gate("top1", reference=None))
    assert (found.reference, found.reference_rows, list(found.models)) == (None, None, ["model"])


@pytest.mark.parametrize("metric", ["top1", "sqnr_db", "agreement"])
def test_the_batch_size_changes_nothing(gate, metric):
    one, other = (Evaluator().measure(gate(metric, batch_size=size)) for size in (1, 64))
    assert one.value == pytest.approx(other.value, rel=1e-12)
    assert one.samples == other.samples == 200
    assert one.data["sha256"] == other.data["sha256"]


def test_the_digest_tells_samples_and_labels_apart(gate, digits):
    samples, labels = np.load(digits.data), np.load(digits.labels)
    evaluator = Evaluator()
    same = evaluator.measure(gate("top1")).data["sha256"]
    assert evaluator.measure(gate("top1"), data=samples, labels=labels).data["sha256"] == same
    assert evaluator.measure(gate("top1"), data=samples, labels=9 - labels).data["sha256"] != same
    assert evaluator.measure(gate("top1"), data=samples[::-1].copy()).data["sha256"] != same


def test_gates_of_one_run_share_the_inference(gate, digits):
    data, evaluator = CountedData(digits.data), Evaluator()
    values = {name: evaluator.measure(gate(name), data=data).value for name in ("agreement", "sqnr_db", "cosine")}
    assert data.passes == 1
    assert values["sqnr_db"] == pytest.approx(Evaluator().measure(gate("sqnr_db")).value)
    evaluator.measure(gate("top1", model="qdq"), data=data)
    assert data.passes == 2, "another model is run, the float model is known"


def test_without_memory_every_gate_runs_the_models(gate, digits):
    data, evaluator = CountedData(digits.data), Evaluator(cache_bytes=100)
    for name in ("agreement", "sqnr_db"):
        evaluator.measure(gate(name), data=data)
    assert data.passes == 2


def test_the_oldest_outputs_are_forgotten(gate, digits):
    """Room for two models' 200 × 10 float32: the third takes the place of the first."""
    data, evaluator = CountedData(digits.data), Evaluator(cache_bytes=2 * 200 * 10 * 4)
    for model in ("fake_quant", "qdq", "ort"):
        evaluator.measure(gate("top1", model, reference=None), data=data)
    evaluator.measure(gate("top1", "qdq", reference=None), data=data)
    assert data.passes == 3
    evaluator.measure(gate("top1", reference=None), data=data)
    assert data.passes == 4


def test_a_model_that_changes_is_run_again(gate, digits, damaged):
    evaluator = Evaluator()
    path = damaged("classifier")
    broken = evaluator.measure(gate("sqnr_db"), model=path).value
    write_model(read_model(digits.fake_quant), path)
    assert evaluator.measure(gate("sqnr_db"), model=path).value > broken + 10


@pytest.mark.parametrize("count", [1, 33, 199])
def test_max_samples_cuts_inside_of_a_batch(gate, digits, count):
    found = Evaluator().measure(gate("top1", max_samples=count, batch_size=32))
    assert found.samples == len(found.value_rows) == count
    first = Evaluator().measure(gate("top1"), data=np.load(digits.data)[:count], labels=np.load(digits.labels)[:count])
    assert found.value == first.value


def test_data_in_memory(gate, digits):
    """An array, batches, a function, and an iterator that runs only once."""
    samples = np.load(digits.data)
    halves = [samples[:100], samples[100:]]
    values = {Evaluator().measure(gate("sqnr_db"), data=data).value for data in (samples, halves, lambda: iter(halves))}
    evaluator, once = Evaluator(), iter(halves)
    values |= {evaluator.measure(gate("sqnr_db"), data=once).value for _ in range(2)}
    values |= {evaluator.measure(gate("cosine"), data=once) and evaluator.measure(gate("sqnr_db"), data=once).value}
    assert max(values) - min(values) < 1e-9


@pytest.mark.parametrize("model", ["ascend", "ort", "qdq"])
def test_every_kind_of_model(gate, model):
    assert Evaluator().measure(gate("sqnr_db", model)).value > 20


def test_simulation_and_deploy_models_measure_the_same(gate):
    values = {Evaluator().measure(gate("sqnr_db", model)).value for model in ("fake_quant", "ascend", "ort")}
    assert len(values) == 1


def test_own_environment(gate):
    found = Evaluator(environment=lambda: {"machine": "rack 7"}).measure(gate("size_ratio"))
    assert found.environment == {"machine": "rack 7"}


def test_progress(gate):
    events = []
    Evaluator(progress=events.append).measure(gate("top1", batch_size=100))
    assert [(event.stage, event.done, event.total) for event in events] == [("gate top1", 1, 2), ("gate top1", 2, 2)]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": None}, ConfigError, "needs the quantized model, and there is none"),
        ({"reference": None}, ConfigError, "needs the float model to compare with, and there is none"),
        ({"model": "missing.onnx"}, ModelError, r"the model 'missing\.onnx' does not exist"),
        ({"data": None}, DataError, "needs data, and there is none"),
        ({"data": "missing.npy"}, DataError, "does not exist"),
        ({"otput": "logits"}, ConfigError, "has no option 'otput'"),
        ({"max_dop": 0.1}, ConfigError, "has no option 'max_dop'.*max_drop"),
        ({"output": 3}, ConfigError, "output = 3; expected a string"),
        ({"preprocess": {"maen": 127}}, ConfigError, "preprocess has no option 'maen'.*mean"),
        ({"preprocess": {"mean": "grey"}}, ConfigError, "cannot be read"),
    ],
)
def test_gates_that_cannot_be_measured(gate, settings, error, message):
    with pytest.raises(error, match=message):
        Evaluator().measure(gate("agreement", **settings))


def test_labels_that_do_not_fit(gate, digits):
    with pytest.raises(DataError, match="needs labels, and there are none"):
        Evaluator().measure(gate("top1", labels=None))
    labels = np.load(digits.labels)
    with pytest.raises(DataError, match="There are 199 labels for at least 200 samples"):
        Evaluator().measure(gate("top1"), labels=labels[:199])
    with pytest.raises(DataError, match="There are 250 labels for 200 samples"):
        Evaluator().measure(gate("top1"), labels=np.concatenate([labels, labels[:50]]))


def test_no_samples(gate):
    with pytest.raises(DataError, match="gives no batches"):
        Evaluator().measure(gate("top1"), data=[])


def test_models_that_do_not_belong_together(gate, build, tmp_path):
    write_model(
        build("""<ir_version: 8, opset_import: ["" : 17]> g (float[N, 1, 8, 8] picture) => (float[N, 1, 8, 8] y)
        { y = Relu(picture) }"""),
        tmp_path / "other.onnx",
    )
    with pytest.raises(ModelError, match=r"has the inputs picture, but .* has image"):
        Evaluator().measure(gate("cosine"), model=tmp_path / "other.onnx")


def test_a_feed_without_a_batch_axis_is_one_sample(build, tmp_path, gate):
    """One sound of n values, four scores."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N] sound) => (float[M] y) { y = Mul(sound, w) }"""
    for name, factor in (("float", 1.0), ("int8", 1.5)):
        write_model(build(text, w=np.full(4, factor, np.float32)), tmp_path / f"{name}.onnx")
    found = Evaluator().measure(
        gate("mse"), model=tmp_path / "int8.onnx", reference=tmp_path / "float.onnx", data=[np.ones(1, np.float32)] * 3
    )
    assert (found.value, found.samples) == (0.25, 3)


def test_dropped_samples_are_told(gate, build, tmp_path):
    """A static batch of 64 takes 192 of the 200 samples, and their labels."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[64, 1, 8, 8] image) => (float[64, 64] y)
    { s = Constant<value_ints = [64, 64]>() y = Reshape(image, s) }"""
    write_model(build(text), tmp_path / "static.onnx")
    found = Evaluator().measure(gate("top1", reference=None, batch_size=64), model=tmp_path / "static.onnx")
    assert found.samples == 192
    assert "8 of 200 samples left out" in found.data["notes"][0]


NAN_MODEL = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y)
{ [add] h = Add(x, c)  y = Sqrt(h) }"""


@pytest.mark.parametrize(
    ("metric", "worst"),
    [("mse", math.inf), ("mae", math.inf), ("max_error", math.inf), ("sqnr_db", -math.inf), ("cosine", math.nan),
     ("spearman", math.nan), ("agreement", 0.0)],
)  # fmt: skip
def test_two_models_that_give_nan_are_not_equal(gate, build, tmp_path, metric, worst):
    for name, shift in (("float", -9.0), ("int8", -8.0)):
        write_model(build(NAN_MODEL, c=np.float32(shift)), tmp_path / f"{name}.onnx")
    found = Evaluator().measure(
        gate(metric), model=tmp_path / "int8.onnx", reference=tmp_path / "float.onnx", data=np.ones((3, 4), np.float32)
    )
    assert found.value == pytest.approx(worst, nan_ok=True)


SOUND = """<ir_version: 8, opset_import: ["" : 17]> g (float[T] sound) => (float y)
{ m = Mul(sound, w) y = ReduceSum<keepdims = 0>(m) }"""


@pytest.fixture
def sounds(build, tmp_path):
    """Two models of sounds [400] that differ by half; thirty sounds, the first two silent."""
    for name, factor in (("float", 1.0), ("int8", 1.5)):
        write_model(build(SOUND, w=np.float32(factor)), tmp_path / f"{name}.onnx")
    clips = [{"sound": np.full(400, index >= 2, np.float32)} for index in range(30)]
    return {"model": tmp_path / "int8.onnx", "reference": tmp_path / "float.onnx", "data": lambda: iter(clips)}


@pytest.mark.parametrize(("limit", "samples"), [(None, 30), (20, 20), (1, 1)])
def test_max_samples_counts_feeds_without_a_batch_axis(gate, sounds, limit, samples):
    """Each sound is one sample, however many values it has."""
    found = Evaluator().measure(gate("mse", max_samples=limit), **sounds)
    assert found.samples == samples
    assert found.value == pytest.approx(200.0**2 * max(0, samples - 2) / samples)


def test_the_first_samples_of_feeds_without_a_batch_axis(gate, sounds):
    first = Evaluator().evaluation(gate("mse"), **sounds).samples(16)
    assert (sum(1 for _ in first), first.size) == (16, 16)


def test_a_model_compared_with_itself_is_refused(gate, digits, tmp_path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(Path(digits.float).read_bytes())
    for settings in ({"metric": "agreement"}, {"metric": "size_ratio"}, {"metric": "top1", "max_drop": 0.01}):
        with pytest.raises(ConfigError, match="are the same model, which would pass whatever it is"):
            Evaluator().measure(gate(**settings), model=copy)
    assert Evaluator().measure(gate("top1", min_value=0.9), model=copy).value > 0.9


def test_external_weights_that_change_are_read_again(gate, digits, tmp_path):
    """The .onnx file stays as it is."""
    path, evaluator = tmp_path / "big.onnx", Evaluator()
    write_model(read_model(digits.fake_quant), path, force_external=True)
    sound = evaluator.measure(gate("sqnr_db"), model=path)
    for file in tmp_path.iterdir():
        if file != path:
            (3 * np.fromfile(file, np.int8)).tofile(file)
    broken = evaluator.measure(gate("sqnr_db"), model=path)
    assert broken.value < sound.value
    assert broken.models["model"]["sha256"] != sound.models["model"]["sha256"]


@pytest.mark.parametrize("count", [193, 199, 201, 256])
def test_labels_are_counted_although_a_batch_is_dropped(gate, build, tmp_path, digits, count):
    """200 samples, 192 of which fill batches."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[64, 1, 8, 8] image) => (float[64, 64] y)
    { s = Constant<value_ints = [64, 64]>() y = Reshape(image, s) }"""
    write_model(build(text), tmp_path / "static.onnx")
    evaluator, asked = Evaluator(), gate("top1", reference=None, batch_size=64)
    given = {"model": tmp_path / "static.onnx", "data": np.load(digits.data)}
    with pytest.raises(DataError, match=f"There are {count} labels for 200 samples|for at least"):
        evaluator.measure(asked, labels=np.zeros(count, np.int64), **given)
    assert evaluator.measure(asked, labels=np.zeros(200, np.int64), **given).samples == 192


def test_the_digest_is_of_the_samples_the_metric_has_read(gate):
    """A latency is of the first batch, whichever gates ran before."""
    alone = Evaluator().measure(gate("latency_ratio", rounds=2, warmup=0)).data["sha256"]
    evaluator = Evaluator()
    whole = evaluator.measure(gate("top1")).data["sha256"]
    assert evaluator.measure(gate("latency_ratio", rounds=2, warmup=0)).data["sha256"] == alone
    assert evaluator.measure(gate("agreement")).data["sha256"] == Evaluator().measure(gate("agreement")).data["sha256"]
    assert whole
