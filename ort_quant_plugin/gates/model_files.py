"""What identifies a model: its files, external data included."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ort_quant_plugin.model import all_tensors, input_specs, read_model

if TYPE_CHECKING:
    import os

    from ort_quant_plugin.model import TensorSpec

__all__ = ["ModelFacts", "model_facts"]


@dataclass(frozen=True)
class ModelFacts:
    """A model's files.

    Attributes:
        path: The model.
        sha256: Of the file, and of its external data where it has any.
        bytes: Of all files.
        inputs: What it is fed.
    """

    path: str
    sha256: str
    bytes: int
    inputs: tuple[TensorSpec, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the inputs."""
        return {name: value for name, value in asdict(self).items() if name != "inputs"}


def model_facts(path: str | os.PathLike[str]) -> ModelFacts:
    """Read what identifies a model.

    Raises:
        ModelError: It is missing or unreadable, or its external data is.
    """
    model = read_model(path)
    external = {Path(tensor.path) for tensor in all_tensors(model) if isinstance(tensor, ir.ExternalTensor)}
    files = [Path(path), *sorted(external)]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
    return ModelFacts(
        str(path), digest.hexdigest(), sum(file.stat().st_size for file in files), tuple(input_specs(model))
    )
