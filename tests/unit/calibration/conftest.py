"""Data of many shapes for calibration methods, and the error they are judged by."""

from __future__ import annotations

import numpy as np
import pytest

N = 50_000


def _shapes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    gauss = rng.normal(size=N)
    arrays = {
        "gauss": gauss,
        "laplace": rng.laplace(size=N),
        "relu": np.maximum(gauss, 0),
        "relu6, saturated": np.clip(rng.normal(4, 3, N), 0, 6),
        "negative": -np.abs(rng.laplace(size=N)),
        "bimodal": np.concatenate([rng.normal(-3, 0.3, N // 2), rng.normal(4, 0.5, N // 2)]),
        "swish": gauss * 3 / (1 + np.exp(-gauss * 3)),
        "tiny": gauss * 1e-3,
        "huge": gauss * 1e6,
        "one outlier": np.append(gauss, 40),
        "far from zero": rng.normal(10, 1, N),
        "few": rng.normal(size=60),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


SHAPES = _shapes()


@pytest.fixture(params=SHAPES)
def values(request) -> np.ndarray:
    """(n,) float32, one distribution after the other."""
    return SHAPES[request.param]


@pytest.fixture(scope="session")
def error_of():
    """``Σ (x̂ − x)²`` of parameters on raw values, in float64."""

    def _error(values, params) -> float:
        half, scale = 1 << (params.num_bits - 1), float(params.scale)
        x = np.asarray(values, np.float64)
        codes = np.clip(np.rint(x / scale) + params.offset, -half, half - 1)
        return float(np.sum(((codes - params.offset) * scale - x) ** 2))

    return _error
