"""What the benchmarks' command lines share: argument types, the working folder, messages, files."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import venvs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["add_common", "folder", "positive", "say", "shown", "triple", "write"]


def add_common(parser: argparse.ArgumentParser, *, repeats: int) -> None:
    """Arguments every benchmark has."""
    add = parser.add_argument
    add("--images", type=Path, help="folder, or .csv with the columns file and, optionally, split and class_index")
    add("--split", default="calibration", help="rows of the .csv to calibrate with (default: %(default)s)")
    add("--eval-split", default="validation", help="rows of the .csv to judge with (default: %(default)s)")
    add("--mean", type=triple, default=(127.0, 127.0, 127.0), metavar="R,G,B", help="default: 127")
    add("--std", type=triple, default=(128.0, 128.0, 128.0), metavar="R,G,B", help="default: 128")
    add("--repeats", type=positive, default=repeats, metavar="N", help="rounds (default: %(default)s)")
    add("--timeout", type=float, default=1800.0, metavar="S", help="seconds for one measurement (default: %(default)s)")
    add("--cache", type=Path, default=venvs.default_cache(), help="folder of the tools' environments")
    add("--peer-python", type=Path, default=Path(sys.executable), help="interpreter to make them with")
    add("--keep", type=Path, metavar="DIR", help="keep models, logs and results in this new folder")
    add("--json", type=Path, metavar="FILE", help="write every measurement")
    add("--markdown", type=Path, metavar="FILE", help="write the table as a page")


def positive(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def triple(text: str) -> tuple[float, ...]:
    """One number for all three channels, or three."""
    values = tuple(float(part) for part in text.split(","))
    if len(values) not in {1, 3}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither one number nor three")
    return values * (3 // len(values))


@contextlib.contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """The working folder: a new one that stays, or one that is gone afterwards."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="ort-quant-bench-") as temporary:
        yield Path(temporary)


def shown(script: str, argv: Sequence[str]) -> str:
    """The command line with folders left out: they belong to one machine."""
    words = [Path(word).name if word.startswith(("/", "~")) else word for word in argv]
    return shlex.join(["python", f"benchmarks/{script}", *words])


def write(path: Path, text: str) -> None:
    """Write a result, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    say(f"written: {path}")


def say(text: str) -> None:
    """What goes on, on stderr: stdout is for the table."""
    print(text, file=sys.stderr, flush=True)
