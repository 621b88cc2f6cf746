"""IFMR, HFMG, SearchN and DMQ on AMCT's published reference data, through the op library in ONNX Runtime.

The figures come from AMCT's own C++ library. HFMG differs from it by intent in one place (signed positions of the
bins left of a candidate range); on this data both forms choose the same range, so all rows are exact.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.ops.library import onnxruntime_module, session_options


def samples(seed: int, k: float, n: int = 20000) -> np.ndarray:
    """LCG x ← (1103515245·x + 12345) mod 2³¹, u = x/2³¹; a sample is float32(k·(u₁+u₂+u₃+u₄ − 2))."""
    values, x = [], seed
    for _ in range(n):
        total = 0.0
        for _ in range(4):
            x = (1103515245 * x + 12345) % 2**31
            total += x / 2**31
        values.append(k * (total - 2))
    return np.array(values, np.float32)


def with_outlier(data: np.ndarray, value: float) -> np.ndarray:
    data = data.copy()
    data[777] = value
    return data


@pytest.fixture(scope="module")
def data() -> dict[str, list[np.ndarray]]:
    a = samples(1, 3)
    return {
        "A": [a],
        "relu(A)": [np.maximum(a, 0)],
        "A+40": [with_outlier(a, 40)],
        "A-40": [with_outlier(a, -40)],
        "-|A|": [-np.abs(a)],
        "100 zeros": [np.zeros(100, np.float32)],
        "A then A2": [a, samples(7, 4)],
    }


def calibrate(tmp_path, batches, op, asymmetric, attributes) -> tuple[np.float32, int]:
    record = tmp_path / "record.txt"
    record.write_text('record {\n  key: "layer"\n  value {\n  }\n}\n', encoding="utf-8")
    text = (
        '<ir_version: 8, opset_import: ["": 17, "amct.customop": 1]> g (float[N] x) => (float[1] s) '
        f'{{ s = amct.customop.{op} <record_file_path: string = "{record}", object_layer0: string = "layer", '
        f"batch_num: int = {len(batches)}, with_offset: int = {int(asymmetric)}{attributes}> (x) }}"
    )
    model = ir.to_proto(ir.from_onnx_text(text)).SerializeToString()
    session = onnxruntime_module().InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])
    for batch in batches:
        (scale,) = session.run(None, {"x": batch})
    lines = record.read_text(encoding="utf-8").splitlines()
    assert np.float32(lines[3].removeprefix("    scale_d: ")) == scale[0]
    return scale[0], int(lines[4].removeprefix("    offset_d: "))


def test_generator(data):
    a = data["A"][0]
    assert a[:3].tolist() == np.array([-1.40160966, 0.144078225, -2.72088099], np.float32).tolist()
    assert (a.min(), a.max()) == (np.float32(-5.22864199), np.float32(5.43173218))


NARROW = ", start_ratio: float = 0.8, end_ratio: float = 1.2, step: float = 0.02"
PERCENTILES = ", max_percentile: float = 0.999, min_percentile: float = 0.999"


@pytest.mark.parametrize(
    ("op", "attributes", "name", "scale", "offset", "symmetric_scale"),
    [
        ("IFMR", "", "A", 0.0405273363, 1, 0.040631067),
        ("IFMR", "", "relu(A)", 0.0208748933, -128, 0.040631067),
        ("IFMR", "", "A+40", 0.172661334, -98, 0.28661415),
        ("IFMR", "", "A-40", 0.176672593, 98, 0.287499994),
        ("IFMR", "", "-|A|", 0.02130091, 127, 0.040313635),
        ("IFMR", NARROW, "A", 0.0405273363, 1, 0.0402033739),
        ("IFMR", PERCENTILES, "A", 0.0393009596, -4, 0.0402397923),
        ("IFMR", "", "100 zeros", 1.0, -128, 1.0),
        ("HFMG", "", "A", 0.0405193828, 1, 0.0408487655),
        ("HFMG", ", nbins: int = 1024", "A", 0.0406214483, 1, 0.0408487655),
        ("HFMG", "", "relu(A)", 0.0201880205, -128, 0.0405350029),
        ("HFMG", "", "A+40", 0.177323908, -99, 0.314873666),
        ("HFMG", "", "A then A2", 0.0557735823, 1, 0.05638244),
    ],
)
def test_published_results(tmp_path, data, op, attributes, name, scale, offset, symmetric_scale):
    assert calibrate(tmp_path, data[name], op, True, attributes) == (np.float32(scale), offset)
    assert calibrate(tmp_path, data[name], op, False, attributes) == (np.float32(symmetric_scale), 0)


def test_hfmg_charges_for_mass_clipped_at_the_low_side(tmp_path):
    """One outlier at −20 in a million values: AMCT's unsigned indices give S = 0.0406258404, O = −1."""
    batch = with_outlier(samples(1, 3, 1_000_000), -20)
    assert calibrate(tmp_path, [batch], "HFMG", True, "") == (np.float32(0.042893786), 0)
