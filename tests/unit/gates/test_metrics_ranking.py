"""Spearman's rank correlation."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.gates.metrics.ranking import spearman_rows

# Wikipedia, "Spearman's rank correlation coefficient", the worked example: IQ and hours of television a week.
IQ = [86, 97, 99, 100, 101, 103, 106, 110, 112, 113]
HOURS = [2, 20, 28, 27, 50, 29, 7, 17, 6, 12]


def test_published_example():
    rho = spearman_rows(np.array([IQ], np.float32), np.array([HOURS], np.float32))
    assert rho[0] == pytest.approx(-29 / 165, rel=1e-12)


def test_ties_share_their_mean_rank():
    """Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: ρ = 4.5 / √(4.5·5)."""
    rho = spearman_rows(np.array([[1.0, 5.0, 5.0, 9.0]]), np.array([[1.0, 2.0, 3.0, 4.0]]))
    assert rho[0] == pytest.approx(np.sqrt(0.9), rel=1e-12)


def test_rows_that_are_constant_or_broken():
    one = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    other = np.array([[3.0, 3.0], [3.0, 4.0], [np.nan, 2.0], [5.0, 4.0]])
    np.testing.assert_array_equal(spearman_rows(one, other), [1.0, 0.0, np.nan, -1.0])
