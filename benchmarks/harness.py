"""Measure child processes: one process per measurement, its wall time, CPU time and peak memory.

This process must stay small and load no numerical library: Linux counts a parent's resident memory at the time of the
fork as the child's, so a large parent would hide the memory of small children.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jobs import Job

__all__ = ["BENCHMARKS", "ChildError", "Run", "interleaved", "median", "ratio", "run_child"]

BENCHMARKS = Path(__file__).resolve().parent


class ChildError(Exception):
    """A child process failed; the message is the last line it wrote."""


@dataclass(frozen=True)
class Run:
    """One measurement.

    Attributes:
        process_seconds: Wall time from the start to the end of the process, interpreter and imports included.
        cpu_seconds: User and system time of the process and those it waited for.
        peak_mb: Peak resident memory (MiB) of the process.
        result: What the child says about itself.
    """

    process_seconds: float
    cpu_seconds: float
    peak_mb: float
    result: Result

    def value(self, name: str) -> float | None:
        """A number of this run by name: of the process, of the work (``seconds``), or one of its parts."""
        known: dict[str, float] = {
            "process": self.process_seconds,
            "cpu": self.cpu_seconds,
            "peak_mb": self.peak_mb,
            "libraries_mb": self.result.libraries_mb,
            "total": self.result.seconds,
            **self.result.parts,
        }
        return known.get(name)


def run_child(python: Path, module: str, job: Job, folder: Path, *, timeout: float, env: Mapping[str, str]) -> Run:
    """Run ``module.run(job)`` in a process of its own.

    Args:
        python: Interpreter of the tool's environment.
        module: Module below this folder.
        job: What to do.
        folder: Where to keep the job, the result and what the child prints.
        timeout: Seconds after which it is killed.
        env: Variables to set on top of this process's.

    Raises:
        ChildError: It failed, was killed, or took too long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job_file, result_file, log = folder / "job.json", folder / "result.json", folder / "log.txt"
    job.write(job_file)
    command = [str(python), str(BENCHMARKS / "child.py"), module, str(job_file), str(result_file)]
    environment = {**os.environ, "PYTHONUTF8": "1", **env}
    with log.open("wb") as stream:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, cwd=folder, env=environment
        )
        alarm = threading.Timer(timeout, child.kill)
        alarm.start()
        try:
            # Popen.wait gives no resource usage; wait4 gives that of this very child.
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        finally:
            alarm.cancel()
        process_seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0 or not result_file.is_file():
        raise ChildError(_reason(child.returncode, log, process_seconds, timeout))
    result = Result(**json.loads(result_file.read_text(encoding="utf-8")))
    peak_mb = usage.ru_maxrss / 1024 if result.peak_mb is None else result.peak_mb
    return Run(process_seconds, usage.ru_utime + usage.ru_stime, peak_mb, result)


def _reason(code: int, log: Path, seconds: float, timeout: float) -> str:
    if code == -9:
        late = f"took longer than {timeout:.0f} s" if seconds >= timeout else "was killed (out of memory?)"
        return f"the process {late}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {code} without a word"


def interleaved(tools: Sequence[Any], repeats: int) -> Iterator[tuple[int, Any]]:
    """Every tool once per round; each round starts one tool further on, so that none always follows the same one."""
    for i in range(repeats):
        start = i % len(tools)
        for tool in [*tools[start:], *tools[:start]]:
            yield i, tool


def median(runs: Sequence[Run], name: str) -> float | None:
    """Median of a number over runs, ``None`` where the tool does not report it."""
    values = [value for run in runs if (value := run.value(name)) is not None]
    return statistics.median(values) if values else None


def ratio(runs: Sequence[Run], name: str, base: Sequence[Run], base_name: str = "total") -> float | None:
    """Median over rounds of the ratio within a round: what slows a whole round down cancels out."""
    pairs = [(run.value(name), other.value(base_name)) for run, other in zip(runs, base, strict=False)]
    values = [a / b for a, b in pairs if a is not None and b]
    return statistics.median(values) if values else None
