"""``ort-quant gate recheck``."""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import gate_output, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.gates.report import GateReport

__all__ = ["command"]


@click.command("recheck")
@click.argument("path", metavar="REPORT.json")
@click.argument("gates_file", metavar="[GATES.toml]", required=False)
@click.option("--gate", "names", metavar="NAME", multiple=True, help="Judge this gate only. Repeatable.")
@click.option("--max-drop", type=click.FloatRange(0), help="The largest drop, in the metric's unit.")
@click.option("--min-value", type=float, help="The smallest value.")
@click.option("--max-value", type=float, help="The largest value.")
@click.option(
    "--significance",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="One-sided level: a threshold counts as missed only if chance at this level does not explain it.",
)
@gate_output.baseline_dir_option
@gate_output.result_options
@options.json_option
def command(
    *,
    path: str,
    gates_file: str | None,
    names: tuple[str, ...],
    baseline_dir: str | None,
    presentation: gate_output.Presentation,
    **given: float | None,
) -> int:
    """Judge saved measurements again, with other thresholds: no model is run, no data is read.

    Thresholds come from the options, else from the gates of GATES.toml, else they are those of the report.
    What decides on the measurement itself (metric, models, data, options) cannot be changed here.

    \b
    ort-quant gate recheck gates.json --gate accuracy --max-drop 0.02
    ort-quant gate recheck gates.json gates.toml --report gates.md
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.gates.baselines import Baselines
    from ort_quant_plugin.gates.report import read_report, recheck
    from ort_quant_plugin.gates.toml_file import read_gates

    presentation.check()
    report = select(read_report(path), names)
    thresholds = {key: value for key, value in given.items() if value is not None}
    _check_units(report, thresholds)
    file = read_gates(gates_file) if gates_file is not None else None
    folder = baseline_dir or (file.baseline_dir if file is not None else None)
    judged = recheck(
        report,
        thresholds=thresholds or None,
        gates=None if file is None else [gate for gate in file.gates if not names or gate.name in names],
        baselines=None if folder is None else Baselines(folder, update=False),
    )
    return presentation.show(judged, source=path)


def select(report: GateReport, names: Sequence[str]) -> GateReport:
    """The report of some gates.

    Raises:
        BadParameter: The report has no gate of that name.
    """
    known = {result.name: result for result in report.results}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(known)}."
            raise click.BadParameter(
                f"the report has no gate '{name}'. {hint}", click.get_current_context(), param_hint="'--gate'"
            )
    return dataclasses.replace(report, results=[known[name] for name in names]) if names else report


def _check_units(report: GateReport, thresholds: dict[str, float]) -> None:
    """0.01 is a percentage point to one metric and next to nothing to another."""
    metrics = sorted({str(result.gate["metric"]) for result in report.results})
    limits = [key for key in thresholds if key != "significance"]
    if limits and len(metrics) > 1:
        raise click.UsageError(
            f"--{limits[0].replace('_', '-')} would count for gates of different metrics ({', '.join(metrics)}); "
            "choose with --gate.",
            click.get_current_context(),
        )
