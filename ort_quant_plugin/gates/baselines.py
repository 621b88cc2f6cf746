"""Stored measurements that later ones are held against.

A baseline that is missing is written and the gate fails, so that nobody's first run passes for a check; an update
fails too. The files are for version control: no absolute paths, a line per fact.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.gates.documents import broken_document, read_document, write_document
from ort_quant_plugin.gates.gate import baseline_parts, without_folders
from ort_quant_plugin.gates.judge import judge
from ort_quant_plugin.gates.measurement import Measurement, Verdict

if TYPE_CHECKING:
    import os

    from ort_quant_plugin.gates.gate import Gate

__all__ = ["SCHEMA", "Baselines", "settle"]

SCHEMA = "ort-quant/gate-baseline/1"
"""Form of a baseline file."""

_WHAT = "Gate baseline"
_HINT = "Restore it from version control, or delete it: the next run writes it anew."


class Baselines:
    """The baselines of one folder.

    Args:
        folder: The folder; made when the first baseline is written.
        update: Whether gates rewrite their baselines.
        partial: The run measures a part of the data, so that missing baselines must not be written.
    """

    def __init__(self, folder: str | os.PathLike[str], update: bool = False, *, partial: bool = False) -> None:
        self.folder = Path(folder)
        self.update = update
        self.partial = partial

    def path(self, name: str) -> Path:
        """File of a baseline: ``/`` makes folders, characters that file systems dislike become ``%XX``.

        Raises:
            ConfigError: The name leads out of the folder or names no file.
        """
        *folders, last = (quote(part, safe="[]=,+@ ") for part in baseline_parts(name))
        return self.folder.joinpath(*folders, f"{last}.json")

    def read(self, name: str) -> Measurement | None:
        """Read a baseline; ``None`` where there is none.

        Raises:
            ConfigError: The name is none, or the file is broken.
        """
        path = self.path(name)
        if not path.exists():
            return None
        document = read_document(path, SCHEMA, what=_WHAT, hint=_HINT)
        try:
            return Measurement.from_dict(document["measurement"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise broken_document(path, _WHAT, f"holds no measurement ({error})", _HINT) from error

    def write(self, name: str, measurement: Measurement) -> Path:
        """Write a baseline.

        Returns:
            Its file.

        Raises:
            ConfigError: The name is none.
            OutputError: The file cannot be written.
        """
        path = self.path(name)
        content = {**measurement.to_dict(), "layers": [], "layers_note": None}
        content["models"] = {role: _without_folder(facts, "path") for role, facts in content["models"].items()}
        content["data"] = _without_folder(content["data"], "spec")
        content["options"] = without_folders(content["options"])
        write_document(path, SCHEMA, {"name": name, "measurement": content})
        return path


def settle(gate: Gate, measurement: Measurement, baselines: Baselines | None) -> Verdict:
    """Judge a measurement against its stored baseline; write that where it is missing or to be updated.

    Args:
        gate: The gate.
        measurement: What was measured.
        baselines: Where baselines are; needed when the gate names one.

    Raises:
        ConfigError: The gate names a baseline, and there is no folder for it, or it is missing and the run measures
            only a part of the data; see also :func:`judge`.
        OutputError: The baseline cannot be written.
    """
    if gate.baseline is None:
        return judge(gate, measurement)
    if baselines is None:
        raise ConfigError(
            f"Gate {gate.name!r} has the baseline {gate.baseline!r}, but no folder of baselines is known.",
            hint="Name it: --quant-baseline-dir (pytest), --baseline-dir (ort-quant gate), baseline_dir (gates.toml).",
            gate=gate.name,
        )
    stored = baselines.read(gate.baseline)
    if measurement.is_lost:  # fails, and is nothing to hold later runs against
        return judge(gate if stored else dataclasses.replace(gate, max_drop=None), measurement, stored)
    if stored is None and baselines.partial:
        raise ConfigError(
            f"There is no baseline {str(baselines.path(gate.baseline))!r}, and none is written of a part of the data.",
            hint="Run the gate once without a limit of samples.",
            gate=gate.name,
        )
    if stored is None:
        path = baselines.write(gate.baseline, measurement)
        return _written(gate, measurement, f"baseline {str(path)!r} did not exist and was written: check and commit it")
    if baselines.update and not _unchanged(stored, measurement):
        path = baselines.write(gate.baseline, measurement)
        return _written(gate, measurement, f"baseline {str(path)!r} was updated: check and commit it")
    return judge(gate, measurement, stored)


def _written(gate: Gate, measurement: Measurement, reason: str) -> Verdict:
    """The limits of the value itself are judged all the same; a drop has nothing to be counted from yet."""
    verdict = judge(dataclasses.replace(gate, max_drop=None), measurement)
    verdict.passed, verdict.baseline_written = False, True
    verdict.reasons.insert(0, reason)
    return verdict


def _unchanged(stored: Measurement, measurement: Measurement) -> bool:
    """Whether an update would change nothing that judging or reporting uses."""
    ours, theirs = measurement.to_dict(), stored.to_dict()
    for document in (ours, theirs):
        document["models"] = {role: facts.get("sha256") for role, facts in document["models"].items()}
        document["data"] = document["data"].get("sha256")
        document["options"] = without_folders(document["options"])
        for key in ("layers", "layers_note", "details", "created", "seconds"):
            del document[key]
    return ours == theirs


def _without_folder(facts: dict[str, Any], key: str) -> dict[str, Any]:
    """Where somebody's files lay is no business of the others'."""
    return {**facts, key: Path(str(facts[key])).name} if facts.get(key) else facts
