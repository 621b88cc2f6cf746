"""The package's front: names are there, and importing it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ort_quant_plugin import triton


def test_every_public_name_is_there():
    for name in triton.__all__:
        assert getattr(triton, name) is not None
    assert set(triton.__all__) == set(triton._HOMES)
    assert set(triton.__all__) <= set(dir(triton))
    with pytest.raises(AttributeError, match="nothing"):
        triton.nothing  # noqa: B018


def test_import_is_cheap():
    heavy = ("tritonclient", "grpc", "onnx_ir", "onnxruntime", "numpy", "google.protobuf", "elftools")
    code = f"import sys, ort_quant_plugin.triton; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
