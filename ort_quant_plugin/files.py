"""Files: read with errors that name the file, written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ort_quant_plugin.errors import OrtQuantError

__all__ = [
    "FOLDER_MODE",
    "check_writable",
    "make_private_file",
    "read_text",
    "staging_folder",
    "unwritable",
    "write_bytes",
    "write_text",
]

_FILE_MODE = 0o640
FOLDER_MODE = 0o750
"""Modes AMCT gives to what it writes; the umask takes its share."""

_STAGING_PREFIX = ".ort-quant-"


def read_text(path: str | os.PathLike[str], *, what: str, error: type[OrtQuantError], hint: str) -> str:
    """Read a UTF-8 file (a byte-order mark is dropped).

    Args:
        path: The file.
        what: What the file is, for the message (``"Record file"``).
        error: The error to raise.
        hint: Where such a file comes from.

    Raises:
        OrtQuantError: As ``error``: the file is missing, a folder, unreadable or not UTF-8 text.
    """
    path = Path(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as cause:
        raise error(f"{what} {str(path)!r} does not exist.", hint=hint, path=str(path)) from cause
    except OSError as cause:
        raise error(
            f"{what} {str(path)!r} cannot be read: {cause.strerror or cause}.", hint=hint, path=str(path)
        ) from cause
    except UnicodeDecodeError as cause:
        raise error(
            f"{what} {str(path)!r} is not UTF-8 text (byte {cause.start}).", hint=hint, path=str(path)
        ) from cause


def make_private_file(path: Path) -> None:
    """Make an empty file of mode 0640 (less the umask) for a writer that knows no modes."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, _FILE_MODE))


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a file or folder that cannot be written."""
    return OutputError(
        f"Cannot write {str(path)!r}: {error.strerror or error}.",
        hint="Check that the folder exists, is writable and has free space.",
        path=str(path),
    )


def check_writable(folder: Path) -> None:
    """Find out before long work that its results could not be written.

    Raises:
        OutputError: ``folder``, or the parent it would be made in, is no folder or not writable.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise unwritable(folder, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise unwritable(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text, whole or not at all (:func:`write_bytes`).

    Raises:
        OutputError: The folder or file cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file in a staging folder beside it, then rename.

    A reader sees the old file or the new one, never a part. Missing folders are made with
    mode 0750, the file gets mode 0640 (both reduced by the umask), as AMCT does.

    Raises:
        OutputError: The folder or file cannot be written.
    """
    path = Path(os.path.realpath(path))  # a link keeps pointing at its file
    with staging_folder(path.parent) as folder:
        try:
            make_private_file(folder / path.name)
            (folder / path.name).write_bytes(content)
            (folder / path.name).replace(path)
        except OSError as error:
            raise unwritable(path, error) from error


@contextmanager
def staging_folder(folder: Path, *, mode: int = FOLDER_MODE) -> Iterator[Path]:
    """A temporary folder inside ``folder``, for work whose results are moved to ``folder`` when complete.

    Missing parents are made (``folder`` with ``mode``, less the umask), and taken away again when the work fails.
    What killed processes have left behind is removed.

    Raises:
        OutputError: ``folder`` cannot be made or written.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        _remove_abandoned(folder)
        temporary = tempfile.TemporaryDirectory(dir=folder, prefix=_STAGING_PREFIX)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        with temporary as name, _locked(Path(name)):
            yield Path(name)
    except BaseException:
        for parent in made:
            with suppress(OSError):  # somebody else has put something there meanwhile
                parent.rmdir()
        raise


def _remove_abandoned(folder: Path) -> None:
    """Remove the staging folders of dead processes: the kernel has released their locks.

    An empty one is left alone: it may be new and about to be locked.
    """
    for path in folder.glob(f"{_STAGING_PREFIX}*"):
        with _locked(path) as locked, suppress(FileNotFoundError):  # another process was faster
            if locked and any(path.iterdir()):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the advisory lock of a folder; False: someone else does, or it cannot be locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # another user's, or gone again
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a file system without locks
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
