"""Saved sketches: all a calibration run has seen, to choose ranges from later, or to continue the run.

A ZIP archive (deflated, all time stamps 1980-01-01) of two members:

``manifest.json``
    An object with exactly these members:

    ============  ====================================================================================================
    ``format``    ``"ort-quant-sketches"``
    ``version``   1
    ``tool``      version of this package that wrote the file
    ``model``     string that identifies the model as observed
    ``data``      string that identifies data, preprocessing and batches, or null where that cannot be known
    ``batches``   batches of the full run, at least 1
    ``done``      ``[[start, stop], …]``: the batches whose data is in the sketches, from ``start`` (from 0) to
                  ``stop − 1``; ascending, without overlap, neither touching the next
    ``layers``    record keys each tensor serves, ``{tensor: [key, …]}``, in the order of the model
    ``sketches``  number of sketches, at most one a tensor
    ============  ====================================================================================================

``sketches.bin``
    The sketches one behind the other (:mod:`ort_quant_plugin.calibration.sketch_format`), in the order of ``layers``;
    the key of each is its tensor. A tensor without one has seen no data.

Files of the same content are equal to the byte; the sums in the sketches are content too.
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.calibration.sketch import Sketch, merge
from ort_quant_plugin.errors import CalibrationError
from ort_quant_plugin.files import write_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["FORMAT", "VERSION", "SketchFile"]

FORMAT, VERSION = "ort-quant-sketches", 1
_MANIFEST, _SKETCHES = "manifest.json", "sketches.bin"
_HINT = "Calibrate again, or give the intact file."

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SketchFile:
    """Sketches of the batches done so far, and what they are of.

    Attributes:
        sketches: By tensor; a tensor that saw no data yet has none.
        layers: Record keys each tensor serves, in the order of the model; every tensor that may have a sketch.
        model: Identity of the model as observed.
        data: Identity of data, preprocessing and batches
            (:attr:`~ort_quant_plugin.calibration.batches.BatchData.fingerprint`).
        batches: Batches of the full run.
        done: Half-open ranges of the batches in ``sketches``: ascending, neither overlapping nor touching.

    Raises:
        CalibrationError: A sketch is of a tensor that ``layers`` does not know.
    """

    sketches: Mapping[str, Sketch]
    layers: Mapping[str, tuple[str, ...]]
    model: str
    data: str | None
    batches: int
    done: Ranges = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.sketches) - set(self.layers))
        if unknown:
            raise CalibrationError(
                f"The sketches of {', '.join(map(repr, unknown))} are not of the observed model.",
                hint="Merge sketches of one calibration model.",
                tensors=unknown,
            )

    @property
    def complete(self) -> bool:
        """Whether all batches are done."""
        return not self.remaining()

    def remaining(self) -> list[tuple[int, int]]:
        """Half-open ranges of the batches not done, ascending."""
        starts = [0, *(stop for _, stop in self.done)]
        stops = [*(start for start, _ in self.done), self.batches]
        return [(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]

    def with_part(self, start: int, stop: int, sketches: Mapping[str, Sketch]) -> SketchFile:
        """Add the sketches of batches ``start`` to ``stop − 1``; the result does not depend on the order of parts.

        Args:
            start: First batch, from 0.
            stop: Behind the last one.
            sketches: By tensor, of these batches alone.

        Raises:
            CalibrationError: A batch is done already or not one of the run, or a tensor is not one of the model.
        """
        if not any(begin <= start < stop <= end for begin, end in self.remaining()):
            raise CalibrationError(
                f"Batches [{start}, {stop}) cannot be added: of {self.batches}, those of "
                f"{_listed(self.remaining()) or 'no range'} are missing.",
                hint="Add every batch once.",
                value=(start, stop),
                expected=self.remaining(),
            )
        found = merge(one.renamed(tensor) for part in (self.sketches, sketches) for tensor, one in part.items())
        return replace(self, sketches=found, done=_coalesced([*self.done, (start, stop)]))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all; an old one is replaced.

        Raises:
            OutputError: The folder or file cannot be written.
        """
        write_bytes(path, self._to_bytes())

    def _to_bytes(self) -> bytes:
        sketches = [self.sketches[tensor].renamed(tensor) for tensor in self.layers if tensor in self.sketches]
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "tool": _tool_version(),
            "model": self.model,
            "data": self.data,
            "batches": self.batches,
            "done": self.done,
            "layers": dict(self.layers),
            "sketches": len(sketches),
        }
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            _add(archive, _MANIFEST, json.dumps(manifest, indent=1).encode())
            _add(archive, _SKETCHES, b"".join(sketch.to_bytes() for sketch in sketches))
        return stream.getvalue()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SketchFile:
        """Read a file.

        Raises:
            CalibrationError: The file is missing, not one of these, of another version, cut off or damaged.
        """
        path = Path(path)
        manifest_text, payload = _read_members(path)
        manifest = _parsed(manifest_text, path)
        layers = {tensor: tuple(keys) for tensor, keys in manifest["layers"].items()}
        try:
            sketches = Sketch.split(payload)
        except CalibrationError as error:
            raise CalibrationError(f"{_named(path)} is damaged: {error.message}", hint=_HINT, path=str(path)) from error
        by_tensor = {sketch.key: sketch for sketch in sketches}
        if not len(by_tensor) == len(sketches) == manifest["sketches"] or not by_tensor.keys() <= layers.keys():
            raise CalibrationError(
                f"{_named(path)} is damaged: it holds {len(sketches)} sketches of {len(by_tensor)} tensors, its "
                f"manifest tells of {manifest['sketches']} for {len(layers)} tensors.",
                hint=_HINT,
                path=str(path),
            )
        done = tuple((start, stop) for start, stop in manifest["done"])
        return cls(by_tensor, layers, manifest["model"], manifest["data"], manifest["batches"], done)


def _coalesced(ranges: Iterable[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return tuple(found)


def _listed(ranges: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"[{start}, {stop})" for start, stop in ranges)


def _tool_version() -> str:
    import ort_quant_plugin

    return str(ort_quant_plugin.__version__)


def _named(path: Path) -> str:
    return f"Sketch file {str(path)!r}"


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr, info.compress_type = 3, 0o640 << 16, zipfile.ZIP_DEFLATED
    archive.writestr(info, content)


def _read_members(path: Path) -> tuple[bytes, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sorted(archive.namelist()) != sorted([_MANIFEST, _SKETCHES]):
                raise _no_sketch_file(path, f"it is a ZIP archive of {archive.namelist()[:5]}")
            return archive.read(_MANIFEST), archive.read(_SKETCHES)
    except FileNotFoundError as error:
        raise CalibrationError(
            f"{_named(path)} does not exist.", hint="Save one with calibrate --save-sketches.", path=str(path)
        ) from error
    except zipfile.BadZipFile as error:
        raise _no_sketch_file(path, f"it is no intact ZIP archive ({error})") from error
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:
        if isinstance(error, CalibrationError):
            raise
        raise CalibrationError(f"{_named(path)} cannot be read: {error}.", hint=_HINT, path=str(path)) from error


def _no_sketch_file(path: Path, why: str) -> CalibrationError:
    return CalibrationError(f"{_named(path)} is not one, or was damaged: {why}.", hint=_HINT, path=str(path))


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    """The manifest, complete and of the right types."""
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_sketch_file(path, f"its manifest is not JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _no_sketch_file(path, f"its manifest does not say format {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise CalibrationError(
            f"{_named(path)} has version {manifest.get('version')!r}, expected {VERSION}.",
            hint="Read it with the release that wrote it, or calibrate again.",
            path=str(path),
            version=manifest.get("version"),
        )
    for name, (expected, fits) in _FIELDS.items():
        if name not in manifest or not fits(manifest[name]):
            found = f"is {json.dumps(manifest[name])[:60]}" if name in manifest else "is missing"
            raise CalibrationError(
                f"{_named(path)}: the manifest's {name!r} {found}; expected {expected}.",
                hint=_HINT,
                path=str(path),
                field=name,
            )
    if not _is_done(manifest["done"], manifest["batches"]):
        raise CalibrationError(
            f"{_named(path)}: the manifest's 'done' is not a list of ascending separate ranges within "
            f"{manifest['batches']} batches.",
            hint=_HINT,
            path=str(path),
            field="done",
        )
    return manifest


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_pairs(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_int, pair)) for pair in value
    )


def _is_done(ranges: list[list[int]], batches: int) -> bool:
    """Whether 0 ≤ start < stop < next start < … ≤ batches."""
    bounds = [bound for pair in ranges for bound in pair]
    ascending = all(one < other for one, other in itertools.pairwise(bounds))
    return ascending and (not bounds or (bounds[0] >= 0 and bounds[-1] <= batches))


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "model": ("a string", lambda value: isinstance(value, str)),
    "data": ("a string or null", lambda value: value is None or isinstance(value, str)),
    "batches": ("a whole number of at least 1", lambda value: _is_int(value) and value >= 1),
    "done": ("a list of pairs of whole numbers", _is_pairs),
    "layers": (
        "an object of lists of strings",
        lambda value: isinstance(value, dict) and all(map(_is_texts, value.values())),
    ),
    "sketches": ("a whole number", _is_int),
}
