"""The benchmark of the pytest plugin's import runs as its README says."""

from __future__ import annotations

import pytest


def test_one_round(run_benchmark, tmp_path):
    page = tmp_path / "page.md"
    done, report = run_benchmark("pytest_import.py", "--markdown", page)
    assert done.returncode == 0, done.stderr
    alone, ours, numpy = report["rows"]
    assert len(alone["seconds"]) == len(ours["seconds"]) == len(numpy["seconds"]) == 1
    assert ours["added_ms"] == pytest.approx(1000 * (ours["seconds"][0] - alone["seconds"][0]))
    assert alone["modules"] == []
    assert "ort_quant_plugin.pytest_plugin" in ours["modules"]
    assert "numpy" in numpy["modules"]
    assert "Modules of others that the plugin imports: none." in done.stdout
    assert "| with this plugin |" in page.read_text(encoding="utf-8")
