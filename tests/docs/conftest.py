"""A shell in which the commands of the documentation are those of this package."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

# A working tree that is only on the path has no entry points.
PYTEST_PLUGIN = "" if entry_points(group="pytest11", name="ort_quant_plugin") else "-p ort_quant_plugin.pytest_plugin"
TOOLS = {"ort-quant": "-m ort_quant_plugin", "pytest": f"-m pytest {PYTEST_PLUGIN}", "python": ""}


@pytest.fixture
def shell(tmp_path):
    """Run a bash script in a folder; it must succeed."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, arguments in TOOLS.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (tools / name).chmod(0o755)
    environment = dict(os.environ, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    environment.pop("PYTEST_ADDOPTS", None)  # those of the run that this test is part of
    environment["PYTHONPATH"] = str(Path(find_spec("ort_quant_plugin").origin).parents[1])

    def _shell(script: str, folder: Path, **variables: str) -> None:
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    return _shell
