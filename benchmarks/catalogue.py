"""The rows of the table: which program runs with which settings in which environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from venvs import Environment

__all__ = ["DEFAULT", "MIN_MAX", "OURS", "PLAIN", "TOOLS", "Tool", "of_method", "of_workers"]

_NNCF = Environment("nncf", ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime=={runtime}", "pillow"), "nncf")
# AIMET's wheel asks for any torch and, through onnx2torch, for torchvision. The first would be a CUDA build of several
# gigabytes, the second has no CPU build on PyPI and is needed by AdaScale only: so torch is the CPU build or nothing,
# and AIMET itself is installed without its dependencies, the rest of which are listed here.
_AIMET = Environment(
    "aimet",
    (
        "torch==2.13.0+cpu",
        "onnx==1.23.2",
        "onnx-ir==1.1.0",
        "onnxscript==0.7.2",
        "onnxruntime=={runtime}",
        *("numpy", "scipy", "pandas", "scikit-learn", "psutil", "tqdm", "pillow"),
        *("Jinja2", "PyYAML", "jsonschema", "pybind11", "bokeh", "hvplot", "osqp"),
    ),
    "aimet_onnx.quantsim",
    ("aimet-onnx==2.42.0",),
)


@dataclass(frozen=True)
class Tool:
    """One row.

    Attributes:
        name: For ``--tools`` and JSON.
        label: For people.
        module: Child program.
        options: Its settings.
        environment: Where it runs; ``None`` is the benchmark's own interpreter.
    """

    name: str
    label: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: Environment | None = None


PLAIN = Tool("plain", "fp32 inference", "peers.plain")
OURS = Tool("ours", "ort-quant-plugin, defaults (IFMR)", "peers.ours")
MIN_MAX = Tool("ort-minmax", "ONNX Runtime MinMax", "peers.ort_static", {"method": "MinMax"})
TOOLS = {
    tool.name: tool
    for tool in (
        PLAIN,
        OURS,
        Tool("ours-exact", "ort-quant-plugin, IFMR, exact storage", "peers.ours", {"storage": "exact"}),
        MIN_MAX,
        Tool("ort-entropy", "ONNX Runtime Entropy", "peers.ort_static", {"method": "Entropy"}),
        Tool("ort-percentile", "ONNX Runtime Percentile", "peers.ort_static", {"method": "Percentile"}),
        Tool("nncf", "NNCF, default preset", "peers.nncf_onnx", environment=_NNCF),
        Tool("aimet-minmax", "AIMET-ONNX min_max", "peers.aimet", {"scheme": "min_max"}, _AIMET),
        Tool("aimet-tf_enhanced", "AIMET-ONNX tf_enhanced", "peers.aimet", {"scheme": "tf_enhanced"}, _AIMET),
    )
}
DEFAULT = [name for name in TOOLS if name != "ours-exact"]


def of_method(method: str) -> Tool:
    """Our tool with another calibration method."""
    return Tool(f"ours-{method}", f"ort-quant-plugin, {method}", "peers.ours", {"method": method})


def of_workers(workers: int) -> Tool:
    """Our tool with the data spread over processes."""
    return Tool(f"ours-workers{workers}", f"ort-quant-plugin, {workers} processes", "peers.ours", {"workers": workers})
