"""Where the development server comes from: a ``tritonserver`` that PyPI carries, in a virtual environment of its own.

The wheel ``nvidia-pytriton`` holds Triton 2.51.0 (the server of NGC 24.10) with the python backend only. Its python
backend needs numpy 1, so the server never shares the environment of this package.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import RuntimeMissingError, TritonError
from ort_quant_plugin.files import unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["SERVER_RELEASE", "SERVER_VERSION", "Environment", "ensure_environment"]

SERVER_VERSION = "2.51.0"
"""Version of the development server."""
SERVER_RELEASE = "24.10"
"""The NGC release that has the same server."""

_SERVER_WHEEL = "nvidia-pytriton==0.7.0"
# numpy 2: requests succeed and their outputs come back empty. Pillow reads images for ensembles.
_STUB_PACKAGES = ("numpy<2", "Pillow>=10")
_OLDEST_GLIBC = (2, 35)
# The wheel has stubs for more, but numpy 1 has no wheel for Python 3.13.
_PYTHONS = ("3.12", "3.11", "3.10")
_VARIABLE = "ORT_QUANT_TRITON_VENV"
_SIZE = "about 320 MB"

# What a Python has to say about itself: the server's python backend embeds it, so it needs it as a shared library.
_PROBE = """
import json, os, sys, sysconfig
name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
of = sysconfig.get_config_var
multiarch = of("MULTIARCH") or ""
folders = [of("LIBDIR"), os.path.join(sys.base_prefix, "lib"), "/usr/lib/" + multiarch, "/lib/" + multiarch]
found = [f for f in folders if f and os.path.isfile(os.path.join(f, name))]
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "libpython": found[0] if found else None,
                  "packages": sysconfig.get_path("purelib")}))
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with a server that can run.

    Attributes:
        folder: The environment.
        server: The executable ``tritonserver``.
        caches: Folder of its response caches.
        python_backend: Folder of its python backend.
        stub: The process that runs Python models, built for the environment's Python.
        library_path: Folders the loader needs: the one of ``libpython``, the ones of the server's own libraries.
        onnxruntime: Version of ONNX Runtime that models are served with.
    """

    folder: Path
    server: Path
    caches: Path
    python_backend: Path
    stub: Path
    library_path: tuple[Path, ...]
    onnxruntime: str


def ensure_environment(
    cache_dir: str | os.PathLike[str] | None = None, *, note: Callable[[str], None] | None = None
) -> Environment:
    """Return the environment of the development server; make it where there is none (once, under a minute).

    It gets the version of ONNX Runtime that is installed here, where that can be had, so that the server's answers can
    be compared with local ones bit for bit. ``ORT_QUANT_TRITON_VENV`` names another place for it; one that is there
    already is used as it is.

    Args:
        cache_dir: Folder that keeps environments; default: ``ort-quant/triton`` in the user's cache folder.
        note: Called with a sentence before work that takes long.

    Raises:
        TritonError: This machine cannot run the server, or its packages cannot be installed.
        OutputError: The folder cannot be written.
    """
    _check_platform()
    wanted = _installed_onnxruntime()
    named = os.environ.get(_VARIABLE)
    if named:
        folder = Path(named).absolute()
    else:
        parent = Path(cache_dir) if cache_dir is not None else _user_cache()
        python = _choose_python()[1]["version"]
        folder = parent.absolute() / f"{SERVER_VERSION}-python{python}-onnxruntime{wanted or ''}"
    if not _is_made(folder):
        with _locked(folder):  # another process may be making it, or have made it meanwhile
            if not _is_made(folder):
                _make(folder, wanted, note)
    return _describe(folder)


def _check_platform() -> None:
    if sys.platform != "linux":
        raise TritonError(
            f"The development server runs on Linux only, this is {sys.platform}.",
            hint="Use a Triton container instead.",
            platform=sys.platform,
        )
    name, version = platform.libc_ver()
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name != "glibc" or parts < _OLDEST_GLIBC:
        needed = ".".join(map(str, _OLDEST_GLIBC))
        raise TritonError(
            f"The development server needs glibc {needed} or newer, this machine has {name or 'another C library'} "
            f"{version}.",
            hint="Use a Triton container, or a newer distribution (Debian 12, Ubuntu 22.04 …).",
            libc=f"{name} {version}",
        )


def _installed_onnxruntime() -> str | None:
    from ort_quant_plugin.ops.library import onnxruntime_module

    try:
        return str(onnxruntime_module().__version__)
    except RuntimeMissingError:
        return None


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "ort-quant" / "triton"
    except RuntimeError as error:
        raise TritonError(
            "There is no folder for the development server: neither HOME nor XDG_CACHE_HOME is set.",
            hint=f"Name one with {_VARIABLE}.",
        ) from error


def _choose_python() -> tuple[str, dict[str, Any]]:
    """The interpreter the environment is made with and what it says about itself: ours if it will do."""
    refused = []
    for command in (sys.executable, *(f"python{version}" for version in _PYTHONS)):
        path = shutil.which(command) if command else None
        facts = _probe(path) if path else None
        if path is None or facts is None:
            continue
        if facts["version"] not in _PYTHONS:
            refused.append(f"{path} is Python {facts['version']}")
        elif facts["libpython"] is None:
            refused.append(f"{path} has no libpython{facts['version']}.so.1.0 (a package of your distribution)")
        else:
            return path, facts
    raise TritonError(
        f"The development server's python backend needs one of Python {', '.join(_PYTHONS)} as a shared library: "
        f"{'; '.join(refused) or 'none found'}.",
        hint=f"Install one of them, or name an environment made with it in {_VARIABLE}.",
        refused=refused,
    )


def _probe(python: str | Path) -> dict[str, Any] | None:
    """What an interpreter says about itself; ``None`` if it does not run (a launcher for one that is not there)."""
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - a Python of this machine
        facts: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return facts


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from making the same folder."""
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError as error:
        raise unwritable(lock, error) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # given back when the file is closed
        yield


def _is_made(folder: Path) -> bool:
    """An environment appears whole, by renaming; one that somebody else made is checked by :func:`_describe`."""
    return (folder / "pyvenv.cfg").is_file()


def _make(folder: Path, onnxruntime: str | None, note: Callable[[str], None] | None) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TritonError(
            f"{_VARIABLE} names '{folder}', which is neither a virtual environment nor an empty folder.",
            hint="Name another folder, or unset the variable.",
            path=str(folder),
        )
    if note:
        note(f"Making the development server's environment in {folder} ({_SIZE}, once).")
    python, _ = _choose_python()
    staging = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        _run([python, "-m", "venv", "--clear", str(staging)], "Its virtual environment cannot be made")
        _install(staging, ["--no-deps", _SERVER_WHEEL])
        runtimes = [f"onnxruntime=={onnxruntime}"] if onnxruntime else []
        for runtime in (*runtimes, "onnxruntime"):
            try:
                _install(staging, [runtime, *_STUB_PACKAGES])
                break
            except TritonError:
                if runtime == "onnxruntime":
                    raise
        staging.replace(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _install(folder: Path, requirements: Sequence[str]) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--only-binary", ":all:", *requirements], f"pip cannot install {' '.join(requirements)}")


def _run(command: Sequence[str], complaint: str) -> None:
    # A PYTHONPATH of ours would make pip find packages there and leave them out.
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - venv and pip
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise TritonError(
            f"The development server cannot be installed. {complaint}: "
            f"{said[-1].strip() if said else 'no reason given'}",
            hint="It needs a package registry that pip reaches, and the module venv (Debian: python3-venv).",
            command=list(command),
        )


def _describe(folder: Path) -> Environment:
    """Find the parts of an environment.

    Raises:
        TritonError: It is not one of ours, or a part is missing or will not work.
    """
    facts = _probe(folder / "bin" / "python3")
    if facts is None:
        raise _unusable(folder, "its Python does not run")
    packages = Path(facts["packages"])
    wheel = packages / "pytriton" / "tritonserver"
    stub = wheel / "python_backend_stubs" / facts["version"] / "triton_python_backend_stub"
    server = wheel / "bin" / "tritonserver"
    if not server.is_file():
        raise _unusable(folder, f"it has no {_SERVER_WHEEL}")
    if not stub.is_file():
        raise _unusable(folder, f"the server has no python backend for its Python {facts['version']}")
    if facts["libpython"] is None:
        raise _unusable(folder, f"its Python has no libpython{facts['version']}.so.1.0")
    versions = {name: _version(packages, name) for name in ("onnxruntime", "numpy")}
    for name, version in versions.items():
        if version is None:
            raise _unusable(folder, f"it has no {name}")
    if not str(versions["numpy"]).startswith("1."):
        raise _unusable(folder, f"it has numpy {versions['numpy']}, with which the server's answers are empty")
    return Environment(
        folder=folder,
        server=server,
        caches=wheel / "caches",
        python_backend=wheel / "backends" / "python",
        stub=stub,
        library_path=(Path(facts["libpython"]), packages / "nvidia_pytriton.libs"),
        onnxruntime=str(versions["onnxruntime"]),
    )


def _unusable(folder: Path, reason: str) -> TritonError:
    return TritonError(
        f"'{folder}' cannot run the development server: {reason}.",
        hint=f"Delete the folder; it is made again. (With {_VARIABLE} set: correct or unset it.)",
        path=str(folder),
    )


def _version(packages: Path, name: str) -> str | None:
    found = sorted(packages.glob(f"{name}-*.dist-info"))
    return found[0].name[len(name) + 1 : -len(".dist-info")] if found else None
