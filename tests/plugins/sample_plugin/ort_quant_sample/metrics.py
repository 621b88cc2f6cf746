"""A metric."""

from __future__ import annotations

import numpy as np


def mean_abs_error(reference, candidate):
    """Mean of the absolute differences, in float64."""
    return float(np.abs(np.asarray(reference, np.float64) - np.asarray(candidate, np.float64)).mean())
