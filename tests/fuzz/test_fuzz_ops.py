"""The fuzz program finds no crash in a few seconds, and would report one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fuzz_ops.py")


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_ops", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_ops"] = module  # its dataclass looks itself up
    yield spec.loader.exec_module(module) or module
    del sys.modules["fuzz_ops"]


@pytest.mark.parametrize("library", [[], ["--deploy"]])
def test_short_run(fuzz, tmp_path, library):
    command = [sys.executable, str(PROGRAM), "--seed", "1", "--child", "80", *library]
    outcomes, wrong = fuzz.watch(command, str(tmp_path), fuzz.HANG_SECONDS)
    assert not wrong
    assert outcomes.total() == 80
    assert min(outcomes[what] for what in ("ran", "refused at load", "refused at run")) > 0


@pytest.mark.parametrize(
    ("death", "code"), [("os.abort()", "-6"), ("time.sleep(60)", "none after 5"), ("sys.exit(3)", "3")]
)
def test_deaths_are_reported(fuzz, tmp_path, death, code):
    program = f"import os, sys, time; print('case 41\\ndone ran\\ncase 42', flush=True); {death}"
    outcomes, wrong = fuzz.watch([sys.executable, "-c", program], str(tmp_path), 5)
    assert outcomes["ran"] == 1
    assert wrong.startswith(f"exit code {code}")
    assert "in case 42\n" in wrong


def test_one_case_can_be_repeated(tmp_path):
    done = [
        subprocess.run(
            [sys.executable, str(PROGRAM), "--case", "7"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert done[0].stdout == done[1].stdout
    assert done[0].stdout.startswith("Node(domain=")
