"""One-pass calibration from Python: the same ranges however the data comes, resumable, any method from one pass."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.calibration.methods import BUILTIN_METHODS
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.calibration.sketch_file import SketchFile
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.errors import CalibrationError, ConfigError, DataError, OutputError
from ort_quant_plugin.model import read_model, write_model
from ort_quant_plugin.record import Record

METHODS = [method.name for method in BUILTIN_METHODS]


@pytest.fixture(scope="module")
def digits():
    return load_digits().calibration


@pytest.fixture
def prepared(tmp_path):
    """Make a calibration model of the digits net; returns (model, record)."""

    def _prepare(batch_num=1, name="net", model=None, **choices):
        paths = {part: str(tmp_path / f"{name}.{part}") for part in ("json", "onnx", "txt")}
        source = str(model or demo_model_path())
        oq.create_quant_config(paths["json"], source, batch_num=batch_num)
        oq.quantize_model(paths["json"], source, paths["onnx"], paths["txt"], **choices)
        return paths["onnx"], paths["txt"]

    return _prepare


def ranges_of(record):
    return {key: (entry.scale_d, entry.offset_d) for key, entry in Record.read(record).items()}


def by_method(report):
    return {method: ranges_of(path) for method, path in report.records.items()}


@pytest.fixture(scope="module")
def reference(digits, tmp_path_factory):
    """Ranges of every method, batches of 10 in order."""
    folder = tmp_path_factory.mktemp("reference")
    paths = {part: str(folder / f"net.{part}") for part in ("json", "onnx", "txt")}
    oq.create_quant_config(paths["json"], str(demo_model_path()), batch_num=len(digits) // 10)
    oq.quantize_model(paths["json"], str(demo_model_path()), paths["onnx"], paths["txt"])
    return by_method(oq.calibrate(paths["onnx"], digits, batch_size=10, method=METHODS))


def test_there_are_eleven_methods(reference):
    assert len(METHODS) == 11
    assert set(reference) == set(METHODS)
    assert all(None not in values for ranges in reference.values() for values in ranges.values())
    assert len({tuple(ranges.values()) for ranges in reference.values()}) >= 9  # they are not all the same thing


@pytest.mark.parametrize("batch_size", [1, 25, 100])
def test_batch_size_does_not_matter(digits, prepared, reference, batch_size):
    model, _ = prepared(len(digits) // batch_size)
    assert by_method(oq.calibrate(model, digits, batch_size=batch_size, method=METHODS)) == reference


def test_order_does_not_matter(digits, prepared, reference):
    model, _ = prepared(len(digits) // 10)
    shuffled = digits[np.random.default_rng(1).permutation(len(digits))]
    assert by_method(oq.calibrate(model, shuffled, batch_size=10, method=METHODS)) == reference


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_do_not_matter(digits, prepared, reference, workers, monkeypatch):
    monkeypatch.setattr("ort_quant_plugin.calibration.runner.PART", 2)
    model, _ = prepared(len(digits) // 10)
    assert by_method(oq.calibrate(model, digits, batch_size=10, method=METHODS, workers=workers)) == reference


def test_quantize_gives_the_same_ranges(digits, reference, tmp_path):
    options = {"method": "kld", "batch_size": 10, "workers": 2, "progress": False}
    report = oq.quantize(demo_model_path(), digits, tmp_path / "q", targets=["qdq"], **options)
    assert ranges_of(report.record) == reference["kld"]
    report = oq.quantize(demo_model_path(), digits, tmp_path / "o", **options)  # the other targets need inputs alone
    inputs = {key: value for key, value in reference["kld"].items() if not key.endswith(":output")}
    assert ranges_of(report.record) == inputs


def test_operators_that_write_the_record_agree(digits, prepared, reference):
    """IFMR and HFMG with sketches of their own, in a session of the user's, give the same ranges as our runner."""
    batches = len(digits) // 10
    model, record = prepared(batches)
    session = ort.InferenceSession(model, oq.session_options())
    assert [output.name for output in session.get_outputs()] == [
        output.name for output in ort.InferenceSession(str(demo_model_path())).get_outputs()
    ]
    (name,) = (value.name for value in session.get_inputs())
    for start in range(0, len(digits), 10):
        session.run(None, {name: digits[start : start + 10]})
    assert ranges_of(record) == reference["ifmr"]


# Sketches that are kept


def test_another_method_needs_no_inference(digits, prepared, reference, tmp_path, monkeypatch):
    model, record = prepared(len(digits) // 10)
    kept = tmp_path / "kept.sketches"
    first = oq.calibrate(model, digits, batch_size=10, sketches=kept)
    assert (first.resumed, first.batches) == (0, len(digits) // 10)
    assert first.sketches == kept

    def refuse(*_args, **_kwargs):
        raise AssertionError("no inference was expected")

    monkeypatch.setattr("ort_quant_plugin.calibration.runner.open_session", refuse)
    second = oq.calibrate(model, digits, batch_size=10, sketches=kept, method="mse")
    assert second.resumed == second.batches
    assert ranges_of(record) == reference["mse"]


def test_sketches_of_another_model_or_data_are_not_overwritten(digits, prepared, tmp_path):
    model, _ = prepared(2)
    kept = tmp_path / "kept.sketches"
    oq.calibrate(model, digits, batch_size=10, sketches=kept)
    content = kept.read_bytes()
    with pytest.raises(OutputError, match="another model or of other data"):
        oq.calibrate(model, digits[::-1], batch_size=10, sketches=kept)
    assert kept.read_bytes() == content


def test_damaged_checkpoint(digits, prepared, tmp_path):
    model, _ = prepared(2)
    kept = tmp_path / "kept.sketches"
    kept.write_bytes(b"PK something else")
    with pytest.raises(CalibrationError, match=r"kept\.sketches"):
        oq.calibrate(model, digits, batch_size=10, sketches=kept)


def test_nothing_is_left_without_asking(digits, prepared, tmp_path):
    model, _ = prepared(2)
    oq.calibrate(model, digits, batch_size=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.json", "net.onnx", "net.txt"]


# Whoever runs the model


@pytest.fixture
def kld_model(prepared, tmp_path):
    """A calibration model whose method has no operator of its own."""
    config = tmp_path / "kld.json"
    oq.create_quant_config(str(config), str(demo_model_path()), batch_num=5)
    document = json.loads(config.read_text())
    for layer in document.values():
        if isinstance(layer, dict) and "activation_quant_params" in layer:
            layer["activation_quant_params"] = {"act_algo": "kld", "num_bits": 8, "asymmetric": True}
    config.write_text(json.dumps(document))
    model, record = str(tmp_path / "kld.onnx"), str(tmp_path / "kld.txt")
    oq.quantize_model(str(config), str(demo_model_path()), model, record)
    return model, record


def test_flushed_bytes_of_several_sessions_make_the_record(digits, kld_model, reference):
    model, record = kld_model
    blobs = []
    for part in (digits[:60], digits[60:]):
        session = ort.InferenceSession(model, oq.session_options())
        (name,) = (value.name for value in session.get_inputs())
        assert session.run(["ort_quant.sketches"], {name: part[:20]})[0].size == 0
        (blob,) = session.run(["ort_quant.sketches"], {name: part[20:], "ort_quant.flush": np.array([True])})
        blobs.append(blob.tobytes())
        assert session.run(["ort_quant.sketches"], {name: part[:20]})[0].size == 0
    assert oq.write_ranges(model, blobs[::-1]) == {"": type(oq.write_ranges(model, blobs)[""])(record)}
    assert ranges_of(record) == reference["kld"]
    assert {sketch.count > 0 for sketch in Sketch.split(blobs[0])} == {True}


def test_bytes_of_another_model(kld_model, digits):
    model, record = kld_model
    before = ranges_of(record)
    with pytest.raises(CalibrationError, match="hold nothing of tensor"):
        oq.write_ranges(model, Sketch.of(digits, "elsewhere").to_bytes())
    with pytest.raises(CalibrationError, match="cut off"):
        oq.write_ranges(model, b"OQSK")
    assert ranges_of(record) == before


# Refusals


def test_infinity_inside_the_net_names_layer_and_tensor(build, prepared, tmp_path):
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[N,4] x) => (float[] y) { e = Exp(x) [fc] y = Gemm(e, w) }"""
    write_model(build(text, w=np.ones((4, 2), np.float32)), tmp_path / "m.onnx")
    model, record = prepared(2, model=tmp_path / "m.onnx")
    data = np.float32([[0, 1, 2, 3], [0, 1, 100, 3]])
    with pytest.raises(
        CalibrationError, match=r"layer 'fc' \(tensor 'e'\).*0 NaN and 1 infinite of 8 values"
    ) as caught:
        oq.calibrate(model, data)
    assert caught.value.hint
    assert ranges_of(record) == {"fc": (None, None)}
    assert not list(tmp_path.glob("*.sketches"))


def test_workers_and_exact_storage_exclude_each_other(digits, prepared):
    model, _ = prepared(2, storage="exact")
    with pytest.raises(ConfigError, match="storage 'exact' runs in one process"):
        oq.calibrate(model, digits, batch_size=10, workers=2)


def test_unknown_method(digits, prepared):
    model, _ = prepared(2)
    with pytest.raises(ConfigError, match="no calibration method 'guess'") as caught:
        oq.calibrate(model, digits, batch_size=10, method="guess")
    assert "ifmr" in caught.value.hint


def test_errors_of_the_data_arrive_as_they_are(prepared):
    model, _ = prepared(3)

    def feeds():
        yield np.zeros((1, 1, 8, 8), np.float32)
        yield np.zeros((1, 1, 8, 8), np.float32)
        yield np.zeros((1, 1, 9, 8), np.float32)

    with pytest.raises(DataError, match="dimension 2 is 9"):
        oq.calibrate(model, feeds)


def test_exact_storage_keeps_all_values(digits, prepared, reference):
    """The two storages agree to a fraction of a bin: 2^-12 of the largest magnitude."""
    model, record = prepared(len(digits) // 10, storage="exact")
    oq.calibrate(model, digits, batch_size=10)
    exact = ranges_of(record)
    assert set(exact) == set(reference["ifmr"])
    for key, (scale, offset) in exact.items():
        assert scale == pytest.approx(reference["ifmr"][key][0], rel=0.02)
        assert abs(offset - reference["ifmr"][key][1]) <= 2


# Interrupted and killed runs

SLOW_NET = """<ir_version: 8, opset_import: ["": 13]>
g (float[N,32,48,48] x) => (float[] y) {
    [c1] a = Conv <pads=[1,1,1,1]> (x, w1) b = Relu(a) [c2] y = Conv <pads=[1,1,1,1]> (b, w2) }"""


@pytest.fixture
def slow_run(build, tmp_path):
    """Command line of a run that takes seconds: 300 batches, checkpoints after every 50."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(32, 32, 3, 3)).astype(np.float32) for name in ("w1", "w2")}
    write_model(build(SLOW_NET, **weights), tmp_path / "slow.onnx")
    np.save(tmp_path / "data.npy", rng.normal(size=(300, 32, 48, 48)).astype(np.float32))

    def _start(prefix):
        command = [
            *(sys.executable, "-m", "ort_quant_plugin", "quantize", "slow.onnx", "--json"),
            *("--data", "data.npy", "--out", prefix),
        ]
        # Not the repository's folder, from which -m would import the sources instead of the installed package.
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)

    return _start


def _wait_for(checkpoint, process):
    deadline = time.monotonic() + 60
    while not checkpoint.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no checkpoint: {process.communicate()}")
        time.sleep(0.002)


def _finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_the_same_command_continues(slow_run, tmp_path, kill):
    checkpoint = tmp_path / "net_calibration.sketches"
    process = slow_run("net")
    _wait_for(checkpoint, process)
    process.send_signal(kill)
    process.communicate(timeout=60)
    assert process.returncode == (130 if kill == signal.SIGINT else -9)
    saved = SketchFile.read(checkpoint)
    done = sum(stop - start for start, stop in saved.done)
    assert 50 <= done < 300
    assert json.loads(_finish(slow_run("net")))["resumed"] == done
    _finish(slow_run("whole"))
    assert (tmp_path / "net_record.txt").read_bytes() == (tmp_path / "whole_record.txt").read_bytes()
    assert not checkpoint.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".ort-quant-")]


def test_ctrl_c_keeps_what_was_done(digits, prepared, tmp_path):
    """The runs in progress end, one more hands out the sketches: nothing of the first batches is lost."""
    model, record = prepared(len(digits) // 10)
    np.save(tmp_path / "digits.npy", digits)

    def interrupt(event):
        if event.done == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        oq.calibrate(model, tmp_path / "digits.npy", batch_size=10, progress=interrupt)
    ((start, stop),) = SketchFile.read(tmp_path / "net.sketches").done
    assert start == 0
    assert 5 <= stop <= 7  # up to two runs were in progress
    assert set(ranges_of(record).values()) == {(None, None)}
    report = oq.calibrate(model, tmp_path / "digits.npy", batch_size=10)
    assert (report.resumed, report.batches) == (stop, 10)


# Trying several methods on the whole net


def test_search_keeps_the_best(digits, tmp_path):
    events = []
    report = oq.quantize(
        demo_model_path(),
        digits,
        tmp_path / "s",
        method=["kld", "minmax", "percentile", "mse"],
        batch_size=10,
        search_samples=4,
        progress=events.append,
    )
    scores = {found.method: found.score for found in report.scores}
    assert list(scores) == ["kld", "minmax", "percentile", "mse"]
    assert all(0.99 < score <= 1 for score in scores.values())
    (chosen,) = (found.method for found in report.scores if found.chosen)
    assert scores[chosen] == max(scores.values())
    alone = oq.quantize(demo_model_path(), digits, tmp_path / "a", method=chosen, batch_size=10, progress=False)
    assert ranges_of(report.record) == ranges_of(alone.record)
    assert [event.done for event in events if event.stage == "search"] == [1, 2, 3, 4]


def test_search_scores_are_those_of_the_outputs(digits, tmp_path, run_model):
    """The score of the winner, recomputed from the written model."""
    report = oq.quantize(
        demo_model_path(),
        digits,
        tmp_path / "s",
        method=["minmax", "mse"],
        score="snr",
        batch_size=10,
        search_samples=3,
        progress=False,
    )
    name = read_model(demo_model_path()).graph.inputs[0].name
    expected = []
    for start in range(0, 30, 10):
        feed = {name: digits[start : start + 10]}
        (a,) = run_model(demo_model_path(), feed).values()
        (b,) = run_model(report.outputs["fake_quant"], feed).values()
        a, b = a.astype(np.float64), b.astype(np.float64)
        expected.append(1 - ((b - a) ** 2).sum() / ((a**2).sum() + 1e-7))
    (chosen,) = (found for found in report.scores if found.chosen)
    assert chosen.score == pytest.approx(np.mean(expected), rel=1e-9)


def test_search_never_leaves_without_a_result(build, tmp_path):
    """KLD cannot do 16 … methods that fail are reported, the others compete; if all fail, the reasons are quoted."""
    text = '<ir_version: 8, opset_import: ["": 13]>\ng (float[N,4] x) => (float[] y) { [fc] y = Gemm(x, w) }'
    write_model(build(text, w=np.ones((4, 2), np.float32)), tmp_path / "m.onnx")
    data = np.full((4, 4), 3e38, np.float32)
    data[:, 1:] = 0
    with pytest.raises(CalibrationError, match="No calibration method gives a result") as caught:
        oq.quantize(tmp_path / "m.onnx", data, tmp_path / "o", method=["minmax", "mse"], progress=False)
    assert "minmax: Layer 'fc'" in caught.value.message


def test_several_methods_and_a_configuration(digits, tmp_path):
    oq.create_quant_config(str(tmp_path / "c.json"), str(demo_model_path()))
    with pytest.raises(ConfigError, match="exclude each other"):
        oq.quantize(demo_model_path(), digits, tmp_path / "o", method=["kld", "mse"], config=tmp_path / "c.json")


def test_memory_is_constant(build, tmp_path):
    """1000 batches need no more memory than 100: the sketches, not the data, are kept (a child's peak RSS, ±5 %)."""
    text = '<ir_version: 8, opset_import: ["": 13]>\ng (float[N,65536] x) => (float[] y) { [fc] y = Gemm(x, w) }'
    write_model(build(text, w=np.ones((65536, 1), np.float32)), tmp_path / "m.onnx")
    script = """
import re, sys
from pathlib import Path
import numpy as np
import ort_quant_plugin as oq
count = int(sys.argv[2])
def feeds():
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.standard_normal((8, 65536), np.float32)
oq.quantize(sys.argv[1], feeds, sys.argv[3], targets=["fake_quant"], progress=False)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])  # ru_maxrss counts the parent's too
"""
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", script, str(tmp_path / "m.onnx"), str(count), str(tmp_path / f"o{count}")],
                capture_output=True,
                text=True,
                check=True,
                cwd=tmp_path,
            ).stdout
        )
        for count in (30, 300)
    ]
    assert peaks[1] <= 1.05 * peaks[0]
