"""Where a measurement was made: what can change a model's outputs although the model stays the same."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import OrtQuantError
from ort_quant_plugin.ops.instruction_sets import FORCING_VARIABLE, instruction_sets
from ort_quant_plugin.ops.library import get_library_path

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["differences", "environment"]

_MISSING = "missing"
_CPU_FACTS = Path("/proc/cpuinfo")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


def environment() -> dict[str, str]:
    """Describe this process's environment.

    Returns:
        ``onnxruntime``, ``numpy``, ``ort_quant_plugin``: versions; ``op_library``: start of its SHA-256;
        ``isa``: instruction set its kernels use; ``ORT_QUANT_ISA`` where that is set; ``python``; ``machine``;
        ``cpu``: the processor's name. What cannot be found is ``"missing"``.
    """
    from ort_quant_plugin import __version__

    facts = {
        "onnxruntime": _runtime_version(),
        "numpy": _version("numpy"),
        "ort_quant_plugin": str(__version__),
        **_library_facts(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
    }
    forced = os.environ.get(FORCING_VARIABLE)
    return facts | ({FORCING_VARIABLE: forced} if forced else {})


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Tell where two environments differ: ``["onnxruntime 1.20.1 (there 1.17.3)"]``.

    Facts that only one of them has are compared with ``not set``.
    """
    names = [*here, *(name for name in there if name not in here)]
    pairs = [(name, here.get(name, "not set"), there.get(name, "not set")) for name in names]
    return [f"{name} {ours} (there {theirs})" for name, ours, theirs in pairs if ours != theirs]


def _runtime_version() -> str:
    """Read from its package, so that reporting does not import it."""
    found = (_version(name) for name in _RUNTIMES)
    return next((text for text in found if text != _MISSING), _MISSING)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return _MISSING


def _library_facts() -> dict[str, str]:
    """Without the library nothing of ours runs, but gates may measure other models."""
    try:
        path = Path(get_library_path())
    except OrtQuantError:
        return {"op_library": _MISSING, "isa": _MISSING}
    digest, chosen = _facts_of_library(path, path.stat().st_mtime_ns)
    return {"op_library": digest, "isa": os.environ.get(FORCING_VARIABLE) or chosen}


@functools.lru_cache(maxsize=8)
def _facts_of_library(path: Path, changed: int) -> tuple[str, str]:
    """Start of a library's digest and the instruction set it chooses; ``changed`` tells a rebuilt one."""
    del changed
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        chosen = (instruction_sets() or (_MISSING,))[-1]
    except OrtQuantError:
        chosen = _MISSING
    return digest[:12], chosen


@functools.cache
def _cpu_name() -> str:
    try:
        lines = _CPU_FACTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or _MISSING)
