"""Quantize the model: what a release does, and what the gates judge. Run: ``python quantize.py``.

It writes the models to ``build`` and the evaluation data to ``data``. A real project would train its model and keep its
data elsewhere; here both come with the package.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits

PROJECT = Path(__file__).resolve().parent


def main() -> None:
    """Write models and data."""
    digits = load_digits()
    build, data = PROJECT / "build", PROJECT / "data"
    for folder in (build, data):
        folder.mkdir(exist_ok=True)
    shutil.copy(demo_model_path(), build / "digits_float.onnx")
    report = oq.quantize(build / "digits_float.onnx", digits.calibration, build / "digits", progress=False)
    np.save(data / "digits.npy", digits.evaluation)
    np.save(data / "labels.npy", digits.labels)
    sys.stdout.write(f"{len(report.quantized)} layers in int8, {len(report.stayed_float)} in float: {build}\n")


if __name__ == "__main__":
    main()
