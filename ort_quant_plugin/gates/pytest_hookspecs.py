"""Hooks that conftest files and other pytest plugins may implement for accuracy gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ort_quant_plugin.gates.measurement import GateResult

__all__ = ["pytest_quant_gate_result", "pytest_quant_machine_info"]


@pytest.hookspec
def pytest_quant_machine_info(config: pytest.Config, info: dict[str, str]) -> None:
    """Extend or correct what is recorded about the machine.

    Called once in every process that measures, before its first measurement. What it leaves in ``info`` goes into
    baselines and reports, and a baseline made where it was different is noted in the verdict.

    Args:
        config: pytest's configuration.
        info: Names and values, to be changed in place: ``info["container"] = "ci-2026-04"``.
    """


@pytest.hookspec
def pytest_quant_gate_result(config: pytest.Config, result: GateResult) -> None:
    """See the result of one gate, as soon as its test has ended.

    Called in the process that reports: under pytest-xdist the controller, not the workers. Gates that did not run
    come at the end of the run.

    Args:
        config: pytest's configuration.
        result: The gate, what was measured and the verdict; changing it changes the reports that will be written.
    """
