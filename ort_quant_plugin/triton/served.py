"""What a served model takes and gives, and requests made up for it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.triton.client import TritonClient

    Array = NDArray[np.generic]

__all__ = ["ServedModel", "ServedTensor", "describe_model", "make_feeds", "split_model_name"]

_PICTURE_SIZE = 256


@dataclass(frozen=True)
class ServedTensor:
    """An input or output as requests see it.

    Attributes:
        name: Its name.
        datatype: Triton's word for the type, such as ``FP32``; ``BYTES`` for text.
        shape: Sizes, ``None`` for a free axis; with the batch axis where the model has one.
    """

    name: str
    datatype: str
    shape: tuple[int | None, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Numpy type; ``object`` for text.

        Raises:
            TritonError: numpy has no such type.
        """
        from tritonclient.utils import triton_to_np_dtype

        found = triton_to_np_dtype(self.datatype)
        if found is None:
            raise TritonError(
                f"{self.name!r} has the type {self.datatype}, which cannot be held in an array.",
                hint="Use another type at the model's inputs and outputs.",
                tensor=self.name,
            )
        return np.dtype(found)


@dataclass(frozen=True)
class ServedModel:
    """A loaded model.

    Attributes:
        name: The model.
        version: The version asked for; empty: the one the server chooses.
        inputs: What a request must bring.
        optional: Names of inputs it may leave out.
        outputs: What it gets.
        max_batch: Largest batch; 0: the server knows no batch axis.
    """

    name: str
    version: str
    inputs: tuple[ServedTensor, ...]
    optional: tuple[str, ...]
    outputs: tuple[ServedTensor, ...]
    max_batch: int

    @property
    def label(self) -> str:
        """``name`` or ``name:version``."""
        return f"{self.name}:{self.version}" if self.version else self.name

    @property
    def batched(self) -> bool:
        """Whether the first axis of every input counts samples."""
        return bool(self.inputs) and all(t.shape and t.shape[0] is None for t in self.inputs)

    def specs(self) -> list[TensorSpec]:
        """The inputs as :func:`~ort_quant_plugin.calibration.data.open_data` wants them."""
        return [TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in self.inputs]


def split_model_name(text: str) -> tuple[str, str]:
    """``name`` or ``name:version`` → name and version (empty for none)."""
    name, colon, version = text.rpartition(":")
    return (name, version) if colon and version.isdigit() else (text, "")


def describe_model(client: TritonClient, model: str, version: str = "") -> ServedModel:
    """Ask a server what a model takes and gives.

    Raises:
        TritonError: It is not loaded, or the server cannot be reached.
    """
    metadata, config = client.metadata(model, version), client.config(model, version)
    optional = tuple(entry.name for entry in config.input if entry.optional)
    inputs = tuple(_tensor(entry) for entry in metadata.inputs if entry.name not in optional)
    return ServedModel(
        model, version, inputs, optional, tuple(map(_tensor, metadata.outputs)), int(config.max_batch_size)
    )


def _tensor(entry: Any) -> ServedTensor:
    return ServedTensor(entry.name, entry.datatype, tuple(None if size < 0 else int(size) for size in entry.shape))


def make_feeds(
    model: ServedModel,
    *,
    batch: int = 1,
    count: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> list[dict[str, Array]]:
    """Make requests of random numbers (pictures for text): the same for models with the same inputs.

    Args:
        model: The model.
        batch: Samples a request.
        count: Number of requests.
        shapes: Sizes of inputs with free axes besides the batch axis, by name, with or without that axis.
        seed: Another seed gives other numbers.

    Raises:
        TritonError: The model takes no such batch, or a size is not known.
    """
    sizes = {tensor.name: _sizes(model, tensor, batch, (shapes or {}).get(tensor.name)) for tensor in model.inputs}
    rng = np.random.default_rng(seed)
    return [
        {tensor.name: _fill(tensor.dtype, sizes[tensor.name], rng) for tensor in model.inputs} for _ in range(count)
    ]


def _sizes(model: ServedModel, tensor: ServedTensor, batch: int, given: Sequence[int] | None) -> tuple[int, ...]:
    if model.max_batch and batch > model.max_batch:
        raise TritonError(
            f"Model {model.label!r} takes batches of at most {model.max_batch}, not {batch}.",
            hint="Use a smaller batch, or serve the model with a larger max_batch_size.",
            model=model.name,
            batch=batch,
        )
    start = 1 if model.batched else 0
    if batch > 1 and not model.batched:
        raise TritonError(
            f"Model {model.label!r} takes no batches: the shape of its input {tensor.name!r} is "
            f"{_shape_text(tensor.shape)}.",
            hint="Use batch 1.",
            model=model.name,
            batch=batch,
        )
    rest = tensor.shape[start:]
    if given is not None and len(given) in {len(rest), len(tensor.shape)}:
        rest = tuple(given)[-len(rest) :] if rest else ()
    if None in rest:
        raise TritonError(
            f"Input {tensor.name!r} of {model.label!r} has the free axes {_shape_text(tensor.shape)}.",
            hint=f"Give their sizes with --input-shape '{tensor.name}:n,n,…'.",
            model=model.name,
            input=tensor.name,
        )
    return (batch,) * start + tuple(size for size in rest if size is not None)


def _shape_text(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _fill(dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if dtype == np.object_:
        pictures = [_picture(rng) for _ in range(math.prod(shape))]
        return np.array(pictures, dtype=object).reshape(shape)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if np.issubdtype(dtype, np.integer):
        high = min(int(np.iinfo(dtype).max), 255)
        return rng.integers(0, high, shape, endpoint=True).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _picture(rng: np.random.Generator) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (_PICTURE_SIZE, _PICTURE_SIZE, 3)).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
