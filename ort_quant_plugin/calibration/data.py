"""Calibration and evaluation data: one door, :func:`open_data`, for every form a user may have it in.

Whatever the form, the result is a :class:`CalibrationData`: batches in a fixed order (lexicographic for
files), readable any number of times and from any batch on, with a known length, one batch in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.arrays import open_arrays, open_npy, open_npz
from ort_quant_plugin.calibration.batches import BatchData, CalibrationData
from ort_quant_plugin.calibration.feeders import NamedObject, open_factory, open_iterable
from ort_quant_plugin.calibration.feeds import single_input
from ort_quant_plugin.calibration.images import IMAGE_SUFFIXES, ImagePreprocess
from ort_quant_plugin.calibration.raw import open_bin_folders
from ort_quant_plugin.calibration.samples import find_samples, open_samples, read_list
from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    from ort_quant_plugin.model import TensorSpec

__all__ = ["BatchData", "CalibrationData", "ImagePreprocess", "open_data"]


def open_data(
    spec: str | Path | CalibrationData | Iterable[Any] | Callable[[], Iterable[Any]],
    inputs: Sequence[TensorSpec],
    *,
    batch_size: int = 1,
    preprocess: ImagePreprocess | None = None,
    limit: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dtypes: Mapping[str, np.dtype[Any]] | None = None,
    split: str | None = None,
) -> BatchData:
    """Open calibration data for a model.

    Args:
        spec: One of

            * a folder of images (.jpg .jpeg .png .bmp .webp) or .npy samples, searched recursively;
            * a ``.npy`` file (one input) or a ``.npz`` file (one array per input name), first axis = samples;
            * folders of raw ``.bin`` files, one per input, ``"dir1;dir2"`` (AMCT): one file = one batch;
            * a text file with one image or .npy path per line (relative to the file; ``#`` lines are comments),
              or a ``.csv`` with a ``file`` column;
            * ``"module:callable"`` or ``"file.py:callable"``, called without arguments for an iterable of feeds;
            * an iterable of feeds, or a callable returning one. A feed is ``{input: array}``, a list of arrays
              in input order, or one array, batch axis included. An iterator that can run only once is kept in
              memory; a callable is not, but is run once more where its result has no length;
            * an array, or a mapping of arrays: like ``.npy`` and ``.npz``.
        inputs: The model's inputs.
        batch_size: Samples per batch where the source has single samples. A model with a static batch dimension
            sets its own; a last incomplete batch is then dropped and said so in ``.notes``.
        preprocess: For images; the default only decodes them to RGB, NCHW, values 0..255.
        limit: Use at most that many batches.
        shapes: Full shape by input name, for raw files of inputs with dynamic dimensions.
        dtypes: Dtype by input name for raw files; default: the input's.
        split: Rows of a ``.csv`` list to use: those whose ``split`` column has this value.

    Raises:
        DataError: the source is missing, empty or unreadable, or does not fit the inputs. Files are checked
            as they are read, so a corrupt image is reported, by name, when its batch comes up.
    """
    if not inputs:
        raise DataError("The model has no inputs, so no data can be fed.", hint="Use a model with inputs.")
    if split is not None and Path(str(spec)).suffix.lower() != ".csv":
        raise DataError(
            f"The split '{split}' needs a .csv list with a split column, not {spec}.",
            hint="Pass the .csv file itself as the data.",
            value=split,
        )
    request = _Request(inputs, batch_size, preprocess or ImagePreprocess(), shapes, dtypes, split)
    data = _open_path(str(spec), request) if isinstance(spec, (str, Path)) else _open_object(spec, request)
    return data.head(limit)


@dataclass(frozen=True)
class _Request:
    inputs: Sequence[TensorSpec]
    batch_size: int
    preprocess: ImagePreprocess
    shapes: Mapping[str, Sequence[int]] | None
    dtypes: Mapping[str, np.dtype[Any]] | None
    split: str | None

    def samples(self, root: Path, names: Sequence[str]) -> BatchData:
        return open_samples(root, names, self.inputs, batch_size=self.batch_size, preprocess=self.preprocess)

    def raw(self, folders: Sequence[Path]) -> BatchData:
        return open_bin_folders(folders, self.inputs, self.shapes, self.dtypes)


def _open_path(spec: str, request: _Request) -> BatchData:
    path = Path(spec)
    if path.is_dir():
        return _open_folder(path, request)
    if path.exists():
        return _open_file(path, request)
    folders = [Path(part.strip()) for part in spec.split(";") if part.strip()]
    if ";" in spec and folders:
        return request.raw(folders)
    if ":" in spec:
        return _open_named(spec, request)
    raise DataError(f"Data {spec} does not exist.", hint="Check the path.", path=spec)


def _open_folder(path: Path, request: _Request) -> BatchData:
    names = find_samples(path)
    if names:
        return request.samples(path, names)
    if any(entry.suffix == ".bin" for entry in path.iterdir()):
        return request.raw([path])
    raise DataError(
        f"Data folder {path} holds no images (.jpg .jpeg .png .bmp .webp), .npy or .bin files.",
        hint="Point to the folder that holds them.",
        path=str(path),
    )


def _open_file(path: Path, request: _Request) -> BatchData:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return open_npy(path, request.inputs, request.batch_size)
    if suffix == ".npz":
        return open_npz(path, request.inputs, request.batch_size)
    if suffix in IMAGE_SUFFIXES:
        return request.samples(path.parent, [path.name])
    return request.samples(path.parent, read_list(path, request.split))


def _open_named(spec: str, request: _Request) -> BatchData:
    named = NamedObject(spec)
    if not callable(named.found):
        raise DataError(
            f"'{spec}' is a {type(named.found).__name__}, not a callable.",
            hint="Define a function without arguments that yields feeds.",
            value=spec,
        )
    return open_factory(named, request.inputs, spec)


def _open_object(spec: Any, request: _Request) -> BatchData:
    inputs, label = request.inputs, getattr(spec, "__name__", type(spec).__name__)
    if isinstance(spec, BatchData):
        return spec
    if isinstance(spec, (np.ndarray, Mapping)):
        named = spec if isinstance(spec, Mapping) else {single_input(inputs, "One array").name: spec}
        return open_arrays(named, inputs, request.batch_size)
    if isinstance(spec, CalibrationData):
        return BatchData(
            inputs, [list(names) for names in spec.batch_names], lambda start, stop: islice(spec, start, stop)
        )
    if callable(spec):
        return open_factory(spec, inputs, label)
    if isinstance(spec, Iterable):
        return open_iterable(spec, inputs, label)
    raise DataError(
        f"Data of type {label} cannot be read.",
        hint="Give a path, an array, an iterable of feeds, or a callable returning one.",
        value=label,
    )
