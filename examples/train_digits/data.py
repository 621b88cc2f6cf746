"""The digits and how they are split: calibration and training images, and an evaluation split nobody trains on.

Images are 8×8, uint8, 0 (paper) to 16 (ink), as scikit-learn ships them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SEED", "Split", "load_split", "write_shipped"]

SEED = 20240229
EVALUATION_PER_CLASS = 45
CALIBRATION_PER_CLASS = 10


@dataclass(frozen=True)
class Split:
    """Indices into scikit-learn's 1797 digits, each sorted.

    ``evaluation`` shares no image with ``training``; ``calibration`` is a subset of ``training``, because
    calibration is part of making the int8 model and must not see the images it is judged on.
    """

    images: np.ndarray
    labels: np.ndarray
    training: np.ndarray
    calibration: np.ndarray
    evaluation: np.ndarray


def load_split() -> Split:
    """Split the digits by class with a fixed seed: 450 to evaluate, 1347 to train, 100 of those to calibrate."""
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    shuffled = np.random.RandomState(SEED).permutation(len(labels))
    by_class = [shuffled[labels[shuffled] == digit] for digit in range(10)]
    stop = EVALUATION_PER_CLASS + CALIBRATION_PER_CLASS
    evaluation = np.sort(np.concatenate([members[:EVALUATION_PER_CLASS] for members in by_class]))
    calibration = np.sort(np.concatenate([members[EVALUATION_PER_CLASS:stop] for members in by_class]))
    return Split(images, labels, np.setdiff1d(shuffled, evaluation), calibration, evaluation)


def write_shipped(split: Split, path: Path) -> None:
    """Write the two shipped splits as uint8, with the index of every image in scikit-learn's set."""
    np.savez_compressed(
        path,
        calibration=split.images[split.calibration],
        calibration_index=split.calibration.astype(np.uint16),
        evaluation=split.images[split.evaluation],
        evaluation_index=split.evaluation.astype(np.uint16),
        labels=split.labels[split.evaluation],
    )
