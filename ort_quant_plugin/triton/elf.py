"""What a shared library needs of the system it is loaded on, read from the file: nothing is executed."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import OpLibraryError, TritonError

if TYPE_CHECKING:
    import os

__all__ = ["LibraryFacts", "read_library", "version_key"]

_ENTRY_POINT = "RegisterCustomOps"
_VERSION = re.compile(r"(GLIBC|GLIBCXX)_([\d.]+)\Z")


@dataclass(frozen=True)
class LibraryFacts:
    """What the file says.

    Attributes:
        path: The library.
        machine: Processor, such as ``EM_X86_64``.
        registers: Whether it has the entry point that ONNX Runtime calls.
        glibc: Highest ``GLIBC_…`` symbol version it needs, or an empty string.
        glibcxx: Highest ``GLIBCXX_…`` symbol version it needs, or an empty string.
        needed: Libraries it is linked with.
    """

    path: Path
    machine: str
    registers: bool
    glibc: str
    glibcxx: str
    needed: tuple[str, ...]


def read_library(path: str | os.PathLike[str]) -> LibraryFacts:
    """Read what a library needs.

    Raises:
        OpLibraryError: The file is no shared library.
        TritonError: pyelftools is not installed.
    """
    path = Path(path)
    try:
        elffile = importlib.import_module("elftools.elf.elffile")
        exceptions = importlib.import_module("elftools.common.exceptions")
    except ImportError as error:
        raise TritonError(
            f"Libraries cannot be checked: {error}.", hint="Install it: pip install 'ort-quant-plugin[triton]'."
        ) from error
    try:
        with path.open("rb") as stream:
            return _facts(path, elffile.ELFFile(stream))
    except (OSError, exceptions.ELFError, exceptions.ELFParseError) as error:
        raise OpLibraryError(
            f"{path} is no shared library: {error or type(error).__name__}.",
            hint="Copy the library again.",
            path=str(path),
        ) from error


def _facts(path: Path, elf: Any) -> LibraryFacts:
    symbols = elf.get_section_by_name(".dynsym")
    entries = symbols.get_symbol_by_name(_ENTRY_POINT) if symbols is not None else None
    dynamic = elf.get_section_by_name(".dynamic")
    versions = elf.get_section_by_name(".gnu.version_r")
    names = [v.name for _, uses in versions.iter_versions() for v in uses] if versions is not None else []
    return LibraryFacts(
        path=path,
        machine=elf["e_machine"],
        registers=any(symbol["st_shndx"] != "SHN_UNDEF" for symbol in entries or ()),
        glibc=_highest("GLIBC", names),
        glibcxx=_highest("GLIBCXX", names),
        needed=tuple(tag.needed for tag in dynamic.iter_tags("DT_NEEDED")) if dynamic is not None else (),
    )


def _highest(kind: str, names: list[str]) -> str:
    found = [match[2] for match in map(_VERSION.match, names) if match is not None and match[1] == kind]
    return max(found, key=version_key, default="")


def version_key(version: str) -> tuple[int, ...]:
    """``2.35`` as numbers, for comparisons; nothing comes before any version."""
    return tuple(int(part) for part in version.split(".") if part)
