"""What a child process is told and what it answers; standard library only, so that it loads in any environment."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["CALIBRATION", "EVALUATION", "REPEATED", "Job", "Result", "Stopwatch", "versions"]

# Splits of the list of samples every tool reads.
CALIBRATION, EVALUATION, REPEATED = "calibration", "evaluation", "repeated"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        model: The float model as the user has it.
        prepared: The same model after ``onnxruntime.quantization.quant_pre_process``, for the tools that want it.
        samples: List of samples: a .csv with the columns file, split and class_index.
        split: The rows to calibrate with.
        mean: Subtracted from pixels 0 to 255, per channel.
        std: Divides the difference, per channel.
        resize: Length of the short side before the crop, ``None`` for none.
        crop: Side of the centre crop, ``None`` for none.
        out: Folder for what the tool writes.
        options: Settings of the tool.
    """

    model: str
    prepared: str
    samples: str
    split: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None
    crop: int | None
    out: str
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


@dataclass(frozen=True)
class Result:
    """What a tool reports about itself.

    Attributes:
        seconds: Wall time of the work: from the loaded libraries to the written model.
        libraries_mb: Resident memory (MiB) when the clock started, that is, of the libraries alone.
        parts: Seconds of parts of the work, by name.
        models: Models written, by kind (``qdq``, ``fake_quant``).
        versions: Versions of the packages that did it.
        peak_mb: Peak resident memory (MiB) of the work where the process goes on with something else after it.
        values: Anything else.
    """

    seconds: float
    libraries_mb: float
    parts: dict[str, float] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    peak_mb: float | None = None
    values: dict[str, Any] = field(default_factory=dict)


class Stopwatch:
    """Started when the libraries are loaded and the work begins."""

    def __init__(self) -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        self.libraries_mb = pages * os.sysconf("SC_PAGE_SIZE") / MIB
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Wall time since the start."""
        return time.perf_counter() - self._started


def versions(*packages: str) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    return {package: number for package in packages if (number := _version(package)) is not None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
