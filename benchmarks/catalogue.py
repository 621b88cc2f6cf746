"""The rows of the table: which program runs with which settings in which environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from venvs import Environment

__all__ = [
    "CONTENDERS",
    "DEFAULT",
    "FLOAT",
    "MIN_MAX",
    "OPENVINO",
    "ORT_QDQ",
    "OURS",
    "OURS_LOWERED",
    "PLAIN",
    "TOOLS",
    "Contender",
    "Tool",
    "of_method",
    "of_workers",
]

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
_OPENVINO = Environment("openvino", ("openvino==2026.4.1", "nncf==3.4.0"), "openvino, nncf")


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
_TARGETS = {"targets": ["fake_quant", "ascend", "qdq"]}  # QDQ is what the other tools write
OURS = Tool("ours", "ort-quant-plugin, defaults (IFMR)", "peers.ours", _TARGETS)
MIN_MAX = Tool("ort-minmax", "ONNX Runtime MinMax", "peers.ort_static", {"method": "MinMax"})
TOOLS = {
    tool.name: tool
    for tool in (
        PLAIN,
        OURS,
        Tool("ours-exact", "ort-quant-plugin, IFMR, exact storage", "peers.ours", {**_TARGETS, "storage": "exact"}),
        MIN_MAX,
        Tool("ort-entropy", "ONNX Runtime Entropy", "peers.ort_static", {"method": "Entropy"}),
        Tool("ort-percentile", "ONNX Runtime Percentile", "peers.ort_static", {"method": "Percentile"}),
        Tool("nncf", "NNCF, default preset", "peers.nncf_onnx", environment=_NNCF),
        Tool("aimet-minmax", "AIMET-ONNX min_max", "peers.aimet", {"scheme": "min_max"}, _AIMET),
        Tool("aimet-tf_enhanced", "AIMET-ONNX tf_enhanced", "peers.aimet", {"scheme": "tf_enhanced"}, _AIMET),
    )
}


@dataclass(frozen=True)
class Contender:
    """One row of the latency table.

    Attributes:
        name: For ``--rows`` and JSON.
        label: For people.
        converter: What makes its model; ``None`` is the float model itself.
        kind: Which of the models that the converter writes.
        engine: Child program that runs it.
        custom_ops: Whether it needs our operators.
    """

    name: str
    label: str
    converter: Tool | None
    kind: str
    engine: str = "timing.ort"
    custom_ops: bool = False

    @property
    def environment(self) -> Environment | None:
        """Where it runs: where it was made."""
        return None if self.converter is None else self.converter.environment


FLOAT = Contender("float", "ONNX Runtime, float", None, "float")
ORT_QDQ = Contender("ort-qdq", "ONNX Runtime, its QDQ", MIN_MAX, "qdq")
OPENVINO = Contender(
    "openvino",
    "OpenVINO int8 (NNCF)",
    Tool("nncf-openvino", "NNCF, OpenVINO backend", "peers.nncf_openvino", environment=_OPENVINO),
    "openvino",
    "timing.openvino",
)
OURS_LOWERED = Contender("ours", "ours: ort model", OURS, "ort", custom_ops=True)
CONTENDERS = {
    contender.name: contender
    for contender in (
        FLOAT,
        ORT_QDQ,
        Contender("ours-qdq", "ONNX Runtime, our QDQ", OURS, "qdq"),
        OPENVINO,
        OURS_LOWERED,
    )
}
DEFAULT = [name for name in TOOLS if name != "ours-exact"]


def of_method(method: str) -> Tool:
    """Our tool with another calibration method."""
    return Tool(f"ours-{method}", f"ort-quant-plugin, {method}", "peers.ours", {**_TARGETS, "method": method})


def of_workers(workers: int) -> Tool:
    """Our tool with the data spread over processes."""
    return Tool(
        f"ours-workers{workers}",
        f"ort-quant-plugin, {workers} processes",
        "peers.ours",
        {**_TARGETS, "workers": workers},
    )
