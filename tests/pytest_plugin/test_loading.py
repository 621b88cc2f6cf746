"""The plugin costs nothing until a gate runs, and loads in every way that pytest knows."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "onnx", "onnxruntime", "onnx_ir", "google.protobuf", "click", "rich", "PIL")
GATE = """
import pytest

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_gate(quant_gate, accuracy):
    quant_gate.judge(accuracy())
"""


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, pytest; known = set(sys.modules); import ort_quant_plugin.pytest_plugin; "
        "print(*set(sys.modules) - known)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = done.stdout.split()
    assert "ort_quant_plugin.pytest_plugin" in new
    assert [name for name in new if not name.startswith("ort_quant_plugin")] == []
    # Modules that only a gate needs.
    needed = ("gate", "measurement", "report", "pytest_support")
    assert {f"ort_quant_plugin.gates.{name}" for name in needed}.isdisjoint(new)


def test_a_run_without_gates_imports_nothing_heavy(project, pytester, run):
    pytester.makepyfile("def test(): pass")
    pytester.makeconftest(
        f"""
        import sys

        def pytest_unconfigure():
            print("heavy:", sorted(set({HEAVY!r}) & set(sys.modules)))
        """
    )
    result = run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["heavy: []"])
    result.stdout.no_fnmatch_line("*quant*gate*")


@pytest.mark.parametrize("args", [("-p", "no:xdist"), ("-p", "no:terminal", "-p", "no:cacheprovider")])
def test_without_other_plugins(project, pytester, run, args):
    pytester.makepyfile(GATE)
    assert run(*args).ret == pytest.ExitCode.OK


def test_warnings_are_errors_in_workers_too(project, pytester, run):
    pytester.makepyfile(GATE)
    run("-p", "xdist.plugin", "-n", "1", "-W", "error").assert_outcomes(passed=1)


def test_loaded_by_its_entry_point(project, pytester, monkeypatch):
    """By name although autoloading is off, and together with all plugins that are installed."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    if not entry_points(group="pytest11", name="ort_quant_plugin"):
        _pretend_installed(pytester.path / "site")
        monkeypatch.syspath_prepend(pytester.path / "site")
        monkeypatch.setenv("PYTHONPATH", f"{pytester.path / 'site'}:{REPOSITORY}")
    pytester.makepyfile(GATE)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.runpytest_subprocess("-p", "ort_quant_plugin").assert_outcomes(passed=1)


def _pretend_installed(folder):
    """Metadata like an installation's, of a source tree that is only on the path."""
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    entry = re.search(r"^\[project\.entry-points\.pytest11\]\n((?:\w+ = .*\n)+)", project, re.MULTILINE)
    assert entry, "pyproject.toml has no entry point for pytest"
    info = folder / "ort_quant_plugin-0.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ort-quant-plugin\nVersion: 0.0.0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{entry[1].replace(chr(34), '')}")
