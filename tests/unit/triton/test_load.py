import math

import numpy as np
import pytest

from ort_quant_plugin.triton.answers import Statistics
from ort_quant_plugin.triton.load import Turn, difference

A = np.array([1.0, -0.0, np.nan, np.inf], np.float32)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (A.copy(), 0.0),
        (np.array([1.0, -0.0, np.nan, 3.0], np.float32), math.inf),
        (A.astype(np.float64), math.inf),
        (A.reshape(2, 2), math.inf),
        (np.array([1.0, -0.0, 0.0, np.inf], np.float32), math.inf),
    ],
)
def test_equal_to_the_bit(other, expected):
    assert difference({"y": A}, {"y": other}) == expected


def test_differences():
    changed = np.array([1.5, 0.0, np.nan, np.inf], np.float32)
    assert difference({"y": A}, {"y": changed}) == 0.5  # equal NaNs and infinities beside do not matter
    one = {"y": np.array([1.0, 2.0], np.float32), "z": np.array([250], np.uint8)}
    assert difference(one, {"y": np.array([1.0, 2.5], np.float32), "z": np.array([5], np.uint8)}) == 245
    assert 0 < difference({"y": np.array([0.0])}, {"y": np.array([-0.0])}) < 1e-300
    assert difference(one, {"y": one["y"]}) == math.inf
    assert difference({"t": np.array([b"a"], object)}, {"t": np.array([b"a"], object)}) == 0
    assert difference({"t": np.array([b"a"], object)}, {"t": np.array([b"b"], object)}) == math.inf


def test_turns_add_up():
    first = Turn([0.1], 1.0, errors=1, wrong=0, largest_error=0.5, failure=None, statistics=Statistics(1, 2))
    second = Turn([0.2, 0.3], 2.0, errors=0, wrong=3, largest_error=0.25, failure="no", statistics=Statistics(10, 20))
    whole = first + second
    assert whole == Turn([0.1, 0.2, 0.3], 3.0, 1, 3, 0.5, "no", Statistics(11, 22))
    assert whole.statistics - first.statistics == second.statistics
