"""What identifies a model: its files, external data included."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ort_quant_plugin.model import all_tensors, input_specs, read_model

if TYPE_CHECKING:
    import os

    from ort_quant_plugin.model import TensorSpec

__all__ = ["ModelFacts", "model_facts"]

_State = tuple[Path, int, int] | None


@dataclass(frozen=True)
class ModelFacts:
    """A model's files.

    Attributes:
        path: The model.
        sha256: Of the file, and of its external data where it has any.
        bytes: Of all files.
        inputs: What it is fed.
        files: Path, size and time of change of each file.
    """

    path: str
    sha256: str
    bytes: int
    inputs: tuple[TensorSpec, ...]
    files: tuple[_State, ...] = field(default=(), compare=False, repr=False)

    @property
    def unchanged(self) -> bool:
        """Whether the files still have the size and the time of change they were read with."""
        return all(state is not None and _state(state[0]) == state for state in self.files)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without inputs and files."""
        return {name: value for name, value in asdict(self).items() if name not in ("inputs", "files")}


def _state(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError:
        return None
    return path, found.st_size, found.st_mtime_ns


def model_facts(path: str | os.PathLike[str]) -> ModelFacts:
    """Read what identifies a model.

    Raises:
        ModelError: It is missing or unreadable, or its external data is.
    """
    model = read_model(path)
    external = {Path(tensor.path) for tensor in all_tensors(model) if isinstance(tensor, ir.ExternalTensor)}
    files = [Path(path), *sorted(external)]
    states = tuple(map(_state, files))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
    size = sum(file.stat().st_size for file in files)
    return ModelFacts(str(path), digest.hexdigest(), size, tuple(input_specs(model)), states)
