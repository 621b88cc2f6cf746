"""Run a model twice, in two processes that differ in what a gate says, and find where their bits part."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.comparison import is_deploy_model
from ort_quant_plugin.errors import ConfigError, ModelError
from ort_quant_plugin.gates import replay
from ort_quant_plugin.metrics import same_bits
from ort_quant_plugin.model import read_model, write_model
from ort_quant_plugin.ops.instruction_sets import FORCING_VARIABLE, instruction_sets
from ort_quant_plugin.ops.library import get_library_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.generic]

__all__ = ["Host", "Replayer", "first_difference", "load"]

_PYTHON_VARIABLES = ("PYTHONPATH", "PYTHONHOME")


@dataclass(frozen=True)
class Host:
    """What runs a model.

    Attributes:
        python: An interpreter with numpy and ONNX Runtime.
        isa: Instruction set our kernels are forced to; ``None`` leaves the choice as it is.
        threads: Intra-op threads.
        level: Graph optimization level, a key of :data:`ort_quant_plugin.gates.replay.LEVELS`.
    """

    python: str = sys.executable
    isa: str | None = None
    threads: int = 1
    level: str = "all"

    def changed(self, options: Mapping[str, Any]) -> Host:
        """This host with what a gate's options change.

        Raises:
            ConfigError: They change nothing, or name a Python or an instruction set that this machine has not.
        """
        fields = {"python": "python", "isa": "isa", "other_threads": "threads", "level": "level"}
        given = {field: options[name] for name, field in fields.items() if options.get(name) is not None}
        if not given:
            raise ConfigError(
                "The metric 'bit_equal' compares a model with itself run otherwise, but nothing says how.",
                hint="Add isa='avx2', python='venv/bin/python', other_threads=4 or level='none'.",
            )
        if "python" in given:
            found = shutil.which(given["python"])
            if found is None:
                raise ConfigError(
                    f"python is {given['python']!r}; expected an interpreter that can be run.",
                    hint="Give the path of a Python that has numpy and onnxruntime.",
                    value=given["python"],
                )
            given["python"] = found
        known = instruction_sets() if "isa" in given else ()
        if "isa" in given and given["isa"] not in known:
            raise ConfigError(
                f"isa is {given['isa']!r}; this machine has {', '.join(known)}.",
                hint="Choose one of these.",
                value=given["isa"],
                expected=known,
            )
        other = replace(self, **given)
        if other._same_as(self):
            same = ", ".join(f"{name}={options[name]!r}" for name in fields if options.get(name) is not None)
            raise ConfigError(
                f"The metric 'bit_equal' would compare the model with itself run the same way: {same} is what runs it "
                "here already.",
                hint="Name another instruction set (isa='scalar'), interpreter, thread count or level.",
                value=same,
            )
        return other

    def _same_as(self, other: Host) -> bool:
        """Whether nothing differs once the defaults are filled in; two names of one interpreter are the same."""
        native = os.environ.get(FORCING_VARIABLE) or instruction_sets()[-1]
        one, two = ((_interpreter(host.python), host.isa or native, host.threads, host.level) for host in (self, other))
        return one == two

    def describe(self, facts: Mapping[str, str], isa: str) -> str:
        """In words: ``onnxruntime 1.20.1, Python 3.11.7, avx2, 1 thread``.

        Args:
            facts: What the process said of itself.
            isa: Instruction set where none is forced.
        """
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        parts = [f"onnxruntime {facts['onnxruntime']}", f"Python {facts['python']}", facts["isa"] or isa, threads]
        return ", ".join(parts + ([] if self.level == "all" else [f"graph optimization {self.level}"]))


def _interpreter(path: str) -> tuple[Path, Path]:
    """Folder and file: virtual environments share the file, and ``python3`` beside ``python`` is the same."""
    return Path(path).absolute().parent.resolve(), Path(path).resolve()


class Replayer:
    """Runs models over feeds that are stored once.

    Args:
        folder: Where files go; the caller removes it.
        op_libraries: Libraries of custom operators, beside ours.
    """

    def __init__(self, folder: Path, op_libraries: Sequence[str]) -> None:
        self._folder = folder
        self._libraries = op_libraries
        self._inputs: list[str] = []
        self._feeds: list[Path] = []
        self._runs = 0

    def store(self, feed: Mapping[str, Array]) -> None:
        """Keep one batch."""
        self._inputs = list(feed)
        path = self._folder / f"feed{len(self._feeds)}.npz"
        np.savez(path, *feed.values())
        self._feeds.append(path)

    def run(
        self, host: Host, model: Path, outputs: Sequence[str], only: int | None = None
    ) -> tuple[list[Path], dict[str, str]]:
        """Run a model in a process of its own.

        Args:
            host: What runs it.
            model: The model.
            outputs: Names of the outputs to store.
            only: Index of the only batch to run; default: all.

        Returns:
            One file of outputs per batch, for :func:`load`, and what the process said of itself.

        Raises:
            ModelError: The process failed; its last words are quoted.
        """
        feeds = self._feeds if only is None else [self._feeds[only]]
        self._runs += 1
        results = [self._folder / f"run{self._runs}-{feed.name}" for feed in feeds]
        job, facts = (self._folder / f"run{self._runs}-{name}.json" for name in ("job", "facts"))
        job.write_text(
            json.dumps(
                {
                    "model": str(model),
                    "libraries": self._all_libraries(model),
                    "threads": host.threads,
                    "level": host.level,
                    "outputs": list(outputs),
                    "inputs": self._inputs,
                    "feeds": list(map(str, feeds)),
                    "results": list(map(str, results)),
                    "environment": str(facts),
                }
            ),
            encoding="utf-8",
        )
        done = subprocess.run(  # noqa: S603  (the interpreter is the user's choice)
            [host.python, replay.__file__, str(job)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=_environment(host),
        )
        if done.returncode:
            raise _failed(host, model, done)
        return results, json.loads(facts.read_text(encoding="utf-8"))

    def _all_libraries(self, model: Path) -> list[str]:
        ours = [get_library_path()]
        if is_deploy_model(model):
            ours.append(get_library_path(deploy=True))
        return [str(Path(path).absolute()) for path in (*ours, *self._libraries)]


def load(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Stored outputs by name."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[f"arr_{index}"] for index, name in enumerate(names)}


def first_difference(
    replayer: Replayer, model: Path, hosts: Sequence[Host], batch: int, folder: Path
) -> dict[str, Any]:
    """Where two runs of one batch first differ, in the order of the graph.

    Every node's result is made an output, with graph optimization off (or at the level the gate asks for): fused nodes
    would have none.

    Args:
        replayer: Has the feeds.
        model: The model.
        hosts: The two that run it.
        batch: Index of the batch.
        folder: Where the copy of the model goes.

    Returns:
        ``first_different_layer``, ``operator``, ``max_abs_difference``, ``different_elements``; or a ``note`` when no
        node differs that way.
    """
    copy = folder / "all_outputs.onnx"
    nodes = list(_expose_nodes(model, copy))
    names = [name for name, _, _ in nodes]
    plain = [replace(host, level="none" if host.level == "all" else host.level) for host in hosts]
    (one,), (other,) = (replayer.run(host, copy, names, batch)[0] for host in plain)
    found, expected = load(other, names), load(one, names)
    for name, layer, operator in nodes:
        if not same_bits(expected[name], found[name]):
            return {"first_different_layer": layer, "operator": operator, **_distance(expected[name], found[name])}
    return {"note": "with graph optimizations off all nodes are equal: the runtime's fused nodes differ"}


def _expose_nodes(model: Path, copy: Path) -> Iterator[tuple[str, str, str]]:
    """Write a copy in which every node's result is an output; yields (output, node, operator) in graph order."""
    graph_model = read_model(model)
    graph = graph_model.graph
    present = set(graph.outputs)
    values = [(value, node) for node in graph for value in node.outputs if value.name]
    graph.outputs.extend(value for value, _ in values if value not in present)
    write_model(graph_model, copy)
    for value, node in values:
        yield str(value.name), str(node.name or value.name), node.op_type


def _distance(expected: Array, found: Array) -> dict[str, Any]:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return {"note": f"{expected.dtype}{list(expected.shape)} against {found.dtype}{list(found.shape)}"}
    one, other = expected.astype(np.float64), found.astype(np.float64)
    different = (one != other) & ~(np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        largest = float(np.nanmax(np.abs(one - other), initial=0.0))
    return {
        "max_abs_difference": largest,
        "different_elements": f"{int(np.count_nonzero(different))} of {expected.size}",
    }


def _environment(host: Host) -> dict[str, str]:
    variables = dict(os.environ)
    if host.isa is not None:
        variables[FORCING_VARIABLE] = host.isa
    if host.python != sys.executable:  # this interpreter's packages are not for another one
        variables = {name: value for name, value in variables.items() if name not in _PYTHON_VARIABLES}
    return variables


def _failed(host: Host, model: Path, done: subprocess.CompletedProcess[str]) -> ModelError:
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    how = host.python + (f" with {FORCING_VARIABLE}={host.isa}" if host.isa else "")
    return ModelError(
        f"{how} could not run {model.name!r}: {last}",
        hint="It needs numpy and an onnxruntime (1.17.3 or newer) that knows the model's operators.",
        path=str(model),
        value=done.returncode,
    )
