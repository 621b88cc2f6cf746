"""One virtual environment per foreign tool, made once and kept in a cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Environment", "EnvironmentUnavailableError", "default_cache", "ensure"]

_READY = "ready.json"


class EnvironmentUnavailableError(Exception):
    """It cannot be made here; the message says why."""


@dataclass(frozen=True)
class Environment:
    """What to install.

    Attributes:
        name: Folder name and ``--tools`` family.
        requirements: Installed with their dependencies. ``{runtime}`` stands for the version of ONNX Runtime the
            benchmark itself runs on, so that every tool calibrates on the same one.
        bare: Installed afterwards without dependencies.
        module: Imported to see that it works.
    """

    name: str
    requirements: tuple[str, ...]
    module: str
    bare: tuple[str, ...] = ()


def default_cache() -> Path:
    """Folder for the environments unless the user names one."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ort-quant-plugin" / "benchmarks"


def ensure(environment: Environment, cache: Path, python: Path, runtime: str) -> Path:
    """Return the interpreter of an environment, making it first where it is not there yet.

    Raises:
        EnvironmentUnavailableError: pip cannot install it, or it does not import.
    """
    requirements = [requirement.format(runtime=runtime) for requirement in environment.requirements]
    recipe = json.dumps([requirements, environment.bare, environment.module, str(python.resolve()), sys.version])
    cache = cache.absolute()  # the tools run in folders of their own
    folder = cache / f"{environment.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    interpreter = folder / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _READY).is_file():
            _make(environment, requirements, folder, python)
    return interpreter


def _make(environment: Environment, requirements: list[str], folder: Path, python: Path) -> None:
    if folder.exists():  # left by a run that was interrupted
        shutil.rmtree(folder)
    interpreter = folder / "bin" / "python"
    pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "install", "--only-binary", ":all:"]
    try:
        _run([str(python), "-m", "venv", str(folder)])
        _run([*pip, *requirements])
        if environment.bare:
            _run([*pip, "--no-deps", *environment.bare])
        _run([str(interpreter), "-c", f"import {environment.module}"])
        frozen = _run([str(interpreter), "-m", "pip", "--disable-pip-version-check", "freeze"])
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / _READY).write_text(json.dumps(frozen.split(), indent=1), encoding="utf-8")


def _run(command: list[str]) -> str:
    # The benchmark's own path must not reach into the tool's environment while pip looks at what is installed.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise EnvironmentUnavailableError(errors[-1].removeprefix("ERROR:").strip())
    return done.stdout
