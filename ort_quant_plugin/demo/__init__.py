"""The shipped demo: a small convolutional network that reads handwritten digits, and digits to calibrate and judge it.

Made by ``examples/train_digits`` in the repository; sources and licences are in this folder's README.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ort_quant_plugin.errors import DataError

__all__ = ["DemoData", "demo_model_path", "load_digits"]

_INK = 16  # the largest pixel value scikit-learn's digits use


@dataclass(frozen=True)
class DemoData:
    """Digits ready to be fed to the demo model's input ``image``.

    Shapes:
        calibration (100, 1, 8, 8) float32 in [0, 1], ten of each digit, seen in training;
        evaluation (450, 1, 8, 8) float32 in [0, 1], 45 of each digit, never seen in training;
        labels (450,) int64, the digits of ``evaluation``, 0 to 9.
    """

    calibration: npt.NDArray[np.float32]
    evaluation: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def _asset(name: str) -> Path:
    path = Path(str(files(__package__) / name))
    if not path.is_file():
        raise DataError(
            f"The demo file {name!r} is missing from the package: {str(path)!r}; expected a shipped file.",
            hint="Reinstall ort-quant-plugin.",
            path=str(path),
        )
    return path


def demo_model_path() -> Path:
    """Return the path of the float model ``digits_cnn.onnx`` (``image`` (batch, 1, 8, 8) → ``logits`` (batch, 10)).

    Raises:
        DataError: The file is missing from the installed package.
    """
    return _asset("digits_cnn.onnx")


def load_digits() -> DemoData:
    """Load the shipped digits, pixels divided by 16 as in training.

    Raises:
        DataError: The file is missing from the installed package.
    """
    with np.load(_asset("digits.npz"), allow_pickle=False) as stored:
        return DemoData(
            calibration=_pixels(stored["calibration"]),
            evaluation=_pixels(stored["evaluation"]),
            labels=stored["labels"].astype(np.int64),
        )


def _pixels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    ink: npt.NDArray[np.float32] = np.divide(images[:, np.newaxis], _INK, dtype=np.float32)
    return ink
