"""IFMR and HFMG with storage="sketch": the record is that of the sketch's method, and memory does not grow."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.hfmg import HfmgMethod
from ort_quant_plugin.calibration.methods.ifmr import IfmrMethod
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.record import Record

F32, F16 = np.float32, np.float16
IFMR = {"max_percentile": 0.999999, "min_percentile": 0.999999, "search_range": (0.7, 1.3), "search_step": 0.01}
HFMG = {"num_of_bins": 4096}
DATA = {
    "gauss": lambda random: random.normal(0.3, 2, 100000),
    "laplace": lambda random: random.laplace(0, 1, 80000),
    "relu": lambda random: np.maximum(random.normal(0, 1, 90000), 0),
    "relu6": lambda random: np.clip(random.normal(3, 4, 90000), 0, 6),
    "negative": lambda random: -random.gamma(2, 1, 5000),
    "outliers": lambda random: np.append(random.normal(0, 1, 50000), [-50, 120]),
    "integers": lambda random: random.integers(-5, 6, 1000),
    "few": lambda random: random.normal(0, 1, 7),
    "one": lambda random: np.array([3.0]),
    "zeros": lambda random: np.zeros(10),
    "narrow": lambda random: np.linspace(-1e-5, 1e-5, 1001),
}


def data(name):
    return DATA[name](np.random.default_rng(7)).astype(F32)


def chosen(op, values, *, symmetric=False, bits=8, **parameters):
    """Scale and offset that the Python twin chooses."""
    method, defaults = (IfmrMethod(), IFMR) if op == "IFMR" else (HfmgMethod(), HFMG)
    params = method.choose(Sketch.of(values), Grid(bits, symmetric), **(defaults | parameters))
    return params.scale, params.offset


@pytest.fixture
def calibrated(make_session, record_file):
    """Scale and offset a node writes after the batches."""

    def _calibrated(op, batches, *, storage="sketch", x_type="float", **attributes):
        path = record_file("conv")
        attributes = {"batch_num": len(batches), **attributes}
        texts = [f"{name}: {'int' if isinstance(v, int) else 'float'} = {v}" for name, v in attributes.items()]
        texts += [f'storage: string = "{storage}"'] if storage else []
        graph = f"""g ({x_type}[] x) => (float[1] s) {{ s = amct.customop.{op} <
            record_file_path: string = "{path}", object_layer0: string = "conv", {", ".join(texts)}> (x) }}"""
        session = make_session(graph)
        for batch in batches:
            (scale,) = session.run(None, {"x": batch})
        record = Record.read(path)["conv"]
        assert record.scale_d == scale[0]
        return record.scale_d, record.offset_d

    return _calibrated


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
@pytest.mark.parametrize("with_offset", [0, 1])
@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("name", DATA)
def test_equals_the_method_on_the_sketch(calibrated, op, with_offset, bits, name):
    values = data(name)
    batches = np.array_split(values, 3) if values.size > 2 else [values]
    got = calibrated(op, batches, with_offset=with_offset, num_bits=bits)
    assert got == chosen(op, values, symmetric=not with_offset, bits=bits)


def test_attributes_are_used(calibrated):
    values = data("gauss")
    want = chosen("IFMR", values, max_percentile=0.999, min_percentile=0.99, search_range=(0.8, 1.2), search_step=0.02)
    got = calibrated(
        "IFMR", [values], start_ratio=0.8, end_ratio=1.2, step=0.02, max_percentile=0.999, min_percentile=0.99
    )
    assert got == want
    assert calibrated("HFMG", [values], nbins=1024) == chosen("HFMG", values, num_of_bins=1024)


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
def test_neither_order_nor_batches_nor_instruction_set_matter(calibrated, isa, op):
    values = data("gauss")
    want = chosen(op, values)
    shuffled = np.random.default_rng(0).permutation(values)
    assert calibrated(op, [shuffled]) == want
    assert calibrated(op, [np.zeros(0, F32), *np.array_split(shuffled[::-1], 7)]) == want


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
def test_half_precision(calibrated, op):
    values = data("gauss").astype(F16)
    assert calibrated(op, [values], x_type="float16") == chosen(op, values)


def squared_error(values, scale, offset, bits=8):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    wide = values.astype(np.float64)
    return float(np.sum(((np.clip(np.rint(wide / scale) + offset, low, high) - offset) * scale - wide) ** 2))


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
@pytest.mark.parametrize("with_offset", [0, 1])
@pytest.mark.parametrize("name", ["gauss", "laplace", "relu", "relu6"])
def test_as_good_as_exact_storage(calibrated, op, with_offset, name):
    values = data(name)
    exact = squared_error(values, *calibrated(op, [values], storage="exact", with_offset=with_offset))
    sketch = squared_error(values, *calibrated(op, [values], with_offset=with_offset))
    assert sketch <= exact * 1.01


@pytest.mark.parametrize(("op", "attributes"), [("IFMR", {"max_percentile": 0.99}), ("HFMG", {"nbins": 512})])
def test_exact_is_the_default(calibrated, op, attributes):
    """A bound inside of the data, and a histogram that grows: there the two differ, so that the default shows."""
    random = np.random.default_rng(4)
    batches = [random.laplace(0, scale, 20000).astype(F32) for scale in (1, 3)]
    exact = calibrated(op, batches, storage="exact", **attributes)
    assert calibrated(op, batches, storage=None, **attributes) == exact
    assert calibrated(op, batches, **attributes) != exact


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
@pytest.mark.parametrize("storage", ["Sketch", "", "none"])
def test_other_storage_is_refused(make_session, record_file, op, storage):
    graph = f"""g (float[N] x) => (float[1] s) {{ s = amct.customop.{op} <storage: string = "{storage}",
        record_file_path: string = "{record_file("a")}", object_layer0: string = "a"> (x) }}"""
    with pytest.raises(Exception, match=f"{op} node 'node_s': attribute 'storage' is \"{storage}\", expected exact or"):
        make_session(graph)


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([np.nan, 1.0], "calibration data has inf/nan value: layer 'conv' (tensor 'x') holds 1 NaN and 0 infinite"),
        ([], "layer 'conv' (tensor 'x') had no values in 1 runs"),
        ([1e12, -1e12], "layer 'conv' (tensor 'x') cannot be calibrated: its values give the scale"),
    ],
)
def test_errors_are_those_of_exact_storage(calibrated, op, bad, message):
    for storage in ("exact", "sketch"):
        with pytest.raises(Exception, match=f"{op} node 'node_s': ") as caught:
            calibrated(op, [np.array(bad, F32)], storage=storage)
        assert message in str(caught.value)


def test_range_beyond_float32(calibrated):
    with pytest.raises(Exception, match="cannot be calibrated: its values span from -3"):
        calibrated("HFMG", [np.array([-3e38, 3e38], F32)])


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np, onnx_ir as ir, onnxruntime as ort
from ort_quant_plugin.ops.library import session_options
storage, path = sys.argv[1:]
graph = f'''<ir_version: 8, opset_import: ["": 17, "amct.customop": 1]>
g (float[N] x) => (float[1] s) {{ s = amct.customop.IFMR <record_file_path: string = "{path}",
    object_layer0: string = "conv", batch_num: int = 40, storage: string = "{storage}"> (x) }}'''
model = ir.to_proto(ir.from_onnx_text(graph)).SerializeToString()
session = ort.InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])
x = np.random.default_rng(0).normal(0, 1, 1 << 20).astype(np.float32)
session.run(None, {"x": x})
def peak():  # ru_maxrss would start with that of the parent
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
for _ in range(38):
    session.run(None, {"x": x})
print(peak() - before)
"""


def test_memory_does_not_grow(record_file):
    """38 more batches of 4 MiB: exact storage keeps them, a sketch does not."""
    grown = {}
    for storage in ("exact", "sketch"):
        command = [sys.executable, "-c", MEMORY, storage, str(record_file("conv"))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=record_file("conv").parent)
        grown[storage] = int(done.stdout) / 1024
    assert grown["sketch"] < 8
    assert grown["exact"] > 30
