"""IFMR and HFMG on the sketch against AMCT's search on all values: synthetic data and a real model's tensors."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin import demo
from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.hfmg import (
    HfmgMethod,
    candidate_losses,
    search_ranges,
    sketch_histogram,
)
from ort_quant_plugin.calibration.methods.ifmr import IfmrMethod
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.config.model import ActivationConfig
from ort_quant_plugin.ops import reference_calibration
from ort_quant_plugin.ops.library import onnxruntime_module

IFMR, HFMG = IfmrMethod(), HfmgMethod()
IFMR_DEFAULTS = {parameter.name: parameter.default for parameter in IFMR.parameters}
both_grids = pytest.mark.parametrize("symmetric", [False, True])


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Every float tensor of the demo network on 40 digits."""
    model = ir.load(demo.demo_model_path())
    for node in model.graph:
        model.graph.outputs.extend(value for value in node.outputs if value not in model.graph.outputs)
    for value in model.graph.outputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    session = onnxruntime_module().InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    (source,) = session.get_inputs()
    images = demo.load_digits().calibration[:40]
    return {source.name: images, **dict(zip(names, session.run(names, {source.name: images}), strict=True))}


# --- IFMR -------------------------------------------------------------------------------------------------------------


@both_grids
@pytest.mark.parametrize("bits", [4, 8])
def test_ifmr_loss_is_within_one_percent(values, symmetric, bits, error_of):
    grid = Grid(bits, symmetric)
    chosen, exact = IFMR.choose(Sketch.of(values), grid), IFMR.reference(values, grid, **IFMR_DEFAULTS)
    assert error_of(values, chosen) <= 1.01 * error_of(values, exact)


@both_grids
def test_ifmr_on_a_real_model(tensors, symmetric, error_of):
    grid, same = Grid(8, symmetric), 0
    for name, tensor in tensors.items():
        chosen, exact = IFMR.choose(Sketch.of(tensor), grid), IFMR.reference(tensor, grid, **IFMR_DEFAULTS)
        assert error_of(tensor.ravel(), chosen) <= 1.01 * error_of(tensor.ravel(), exact), name
        same += chosen == exact
    assert len(tensors) > 20
    assert same >= 0.8 * len(tensors)


@both_grids
def test_ifmr_of_values_on_a_grid_of_their_own(symmetric, error_of):
    """Pixels: a scale that meets all of them has no error at all, and must not be missed for half a bin."""
    pixels = (np.random.default_rng(0).integers(0, 256, 50_000) / 255 - 0.485) / 0.229
    for data in (pixels.astype(np.float32), np.repeat(np.arange(256, dtype=np.float32), 50)):
        grid = Grid(8, symmetric)
        chosen, exact = IFMR.choose(Sketch.of(data), grid), IFMR.reference(data, grid, **IFMR_DEFAULTS)
        assert error_of(data, chosen) <= 1.01 * error_of(data, exact) + 1e-9 * float(data @ data)


@both_grids
def test_ifmr_at_16_bits(values, symmetric, error_of):
    """Bins are wider than steps, so what many equal values or a few make of the steps' phase is not seen."""
    grid = Grid(16, symmetric)
    chosen, exact = IFMR.choose(Sketch.of(values), grid), IFMR.reference(values, grid, **IFMR_DEFAULTS)
    phase_matters = values.size < 100 or np.mean(values == values.max()) > 0.01
    assert error_of(values, chosen) <= (2 if phase_matters else 1.02) * error_of(values, exact)


def test_ifmr_parameters_count():
    data = np.append(np.random.default_rng(3).normal(size=10_000), 40).astype(np.float32)
    sketch, grid = Sketch.of(data), Grid(8, True)
    for changed in ({"max_percentile": 0.999}, {"search_range": (0.3, 0.5)}, {"search_step": 0.4}):
        parameters = {**IFMR_DEFAULTS, **changed}
        params = IFMR.choose(sketch, grid, **parameters)
        # A percentile inside of the data is known within a bin, and the next candidate is 1 % away.
        assert params.scale == pytest.approx(IFMR.reference(data, grid, **parameters).scale, rel=0.02)
        assert params != IFMR.choose(sketch, grid, **IFMR_DEFAULTS)


# --- HFMG -------------------------------------------------------------------------------------------------------------


def direct_loss(counts, left, right, bits):
    """The published sum over source bins, one by one, in bins and float64: left part, whole cells, right part."""
    cell, last = (right - left + 1) / 2**bits, 2**bits - 1
    begin = np.arange(counts.size) - left
    end = begin + 1
    first, final = (np.clip(np.floor(edge / cell), 0, last) for edge in (begin, end))
    first_centre, final_centre = first * cell + cell / 2, final * cell + cell / 2

    def integral(a, b):
        return (b**3 - a**3) / 3

    split = integral(begin - first_centre, cell / 2) + integral(-cell / 2, end - final_centre)
    split = split + (final - first - 1) * integral(-cell / 2, cell / 2)
    return float(counts @ np.where(first == final, integral(begin - first_centre, end - first_centre), split))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("bins", [1024, 4096])
def test_hfmg_losses_are_the_published_sums(values, bits, bins):
    counts = sketch_histogram(Sketch.of(values), bins)
    left, right = search_ranges(counts)
    losses = candidate_losses(counts, 1.0, left, right, bits)
    judged = np.flatnonzero(np.isfinite(losses))
    tried = np.unique(np.concatenate([np.linspace(0, left.size - 1, 40).astype(int), judged[:: judged.size // 40 + 1]]))
    expected = np.array([direct_loss(counts, left[i], right[i], bits) for i in tried])
    finite = np.isfinite(losses[tried])
    np.testing.assert_allclose(losses[tried][finite], expected[finite], rtol=1e-6)
    assert (expected >= losses.min() * (1 - 1e-6)).all()  # no candidate left out could have won
    best = int(np.argmin(losses))
    assert losses[best] == pytest.approx(direct_loss(counts, left[best], right[best], bits), rel=1e-6)


def test_hfmg_candidates_are_the_published_walk(values):
    for bins in (1024, 8192):
        counts = sketch_histogram(Sketch.of(values), bins)
        left, right = search_ranges(counts)
        published = reference_calibration._search_ranges(counts)
        assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(int(a), int(b)) for a, b in published]


def test_hfmg_histogram_holds_every_value(values):
    for bins in (1024, 8192):
        counts = sketch_histogram(Sketch.of(values), bins)
        assert counts.size == bins
        assert counts.sum() == values.size
        exact, low, high = reference_calibration.hfmg_histogram([values], bins)
        assert (low, high) == (values.min(), values.max())
        # float32's bin of a value and counts cut in two: what lies below an edge differs by part of a sketch's bin
        nearby = np.convolve(exact, np.ones(3), "same")
        assert (np.abs(np.cumsum(counts) - np.cumsum(exact)) <= nearby + 1).all()


def test_hfmg_interval_costs_what_the_published_one_costs(values):
    """Judged by the search's own loss on the histogram of all values."""
    counts, low, high = reference_calibration.hfmg_histogram([values], 4096)
    width = float(high - low) / 4096
    ours = sketch_histogram(Sketch.of(values), 4096)
    left, right = search_ranges(ours)
    best = int(np.argmin(candidate_losses(ours, width, left, right, 8)))
    published = candidate_losses(counts, width, *search_ranges(counts), 8).min()
    assert direct_loss(counts, left[best], right[best], 8) <= 1.01 * published


@both_grids
def test_hfmg_error_on_the_values(values, symmetric, error_of):
    grid = Grid(8, symmetric)
    chosen = HFMG.choose(Sketch.of(values), grid, num_of_bins=2048)
    exact = HFMG.reference(values, grid, num_of_bins=2048)
    assert error_of(values, chosen) <= 1.05 * error_of(values, exact)


@both_grids
def test_hfmg_on_a_real_model(tensors, symmetric, error_of):
    grid, within = Grid(8, symmetric), 0
    for name, tensor in tensors.items():
        chosen = HFMG.choose(Sketch.of(tensor), grid, num_of_bins=1024)
        exact = HFMG.reference(tensor, grid, num_of_bins=1024)  # a second a tensor with 4096
        ratio = error_of(tensor.ravel(), chosen) / error_of(tensor.ravel(), exact)
        assert ratio <= 1.05, name
        within += ratio <= 1.01
    assert within >= 0.9 * len(tensors)


def test_hfmg_of_narrow_data_keeps_amcts_contract():
    """Bins below FLT_EPSILON: all counts in the middle one, and the first candidate wins, right of the middle."""
    data = (1 + np.linspace(0, 1e-4, 100)).astype(np.float32)
    counts = sketch_histogram(Sketch.of(data), 4096)
    assert counts[2048] == counts.sum() == 100
    assert HFMG.choose(Sketch.of(data), Grid()) == HFMG.reference(data, Grid())


def test_hfmg_keeps_scales_down_to_float64_epsilon():
    data = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 1e-9
    params = HFMG.choose(Sketch.of(data), Grid())
    assert 0 < params.scale < 1e-10
    assert params.scale == HFMG.reference(data, Grid()).scale


# --- the operators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [IFMR, HFMG], ids=lambda m: m.name)
def test_storage_is_an_attribute(method):
    parameters = {parameter.name: parameter.default for parameter in method.parameters}
    activation = ActivationConfig(method.name, parameters=parameters)
    common = {"batch_num": 2, "object_layers": ["a"], "record_file": "/r"}
    assert method.observer(activation, **common).attributes["storage"] == "sketch"
    assert method.observer(activation, **common, storage="exact").attributes["storage"] == "exact"
