"""``ort-quant gate run``."""

from __future__ import annotations

import dataclasses
import difflib
import shlex
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import gate_output, options
from ort_quant_plugin.cli.output import get_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.report import GateReport
    from ort_quant_plugin.gates.toml_file import GatesFile

__all__ = ["command"]


@click.command("run")
@click.argument("path", metavar="[GATES.toml]", default="gates.toml")
@click.option("--only", metavar="NAME", multiple=True, help="Run this gate; * and ? match parts of names. Repeatable.")
@click.option("--skip", metavar="NAME", multiple=True, help="Leave this gate out, likewise. Repeatable.")
@click.option("--max-samples", type=click.IntRange(1), help="Use at most that many samples, for a quick look.")
@gate_output.baseline_dir_option
@click.option(
    "--update-baselines",
    is_flag=True,
    help="Store what is measured as the new baselines; gates whose value changed still fail.",
)
@gate_output.result_options
@options.json_option
def command(
    *,
    path: str,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    max_samples: int | None,
    baseline_dir: str | None,
    update_baselines: bool,
    presentation: gate_output.Presentation,
) -> int:
    """Measure the gates of a file (gates.toml where none is named) and judge them.

    Exit code 1: a gate failed or could not be measured. A gate whose baseline did not exist writes it and fails.

    \b
    ort-quant gate run
    ort-quant gate run gates.toml --only 'digits-*' --report gates.json --report gates.md
    ort-quant gate run --format github
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.gates.baselines import Baselines
    from ort_quant_plugin.gates.engine import run_gates
    from ort_quant_plugin.gates.metrics import metric_named
    from ort_quant_plugin.gates.toml_file import read_gates

    if update_baselines and max_samples is not None:
        raise click.UsageError(
            "--update-baselines with --max-samples would store baselines of a part of the data.",
            click.get_current_context(),
        )
    file = read_gates(path)
    chosen = select(file.gates, only, skip)
    presentation.check()
    for gate in chosen:  # all of them before the first inference
        metric_named(gate.metric).parse_options(gate.options, f"{path}, gate '{gate.name}'")
    folder = baseline_dir or file.baseline_dir
    baselines = Baselines(folder, update=update_baselines, partial=max_samples is not None)
    with get_output().progress() as progress:
        limited = [_limited(gate, max_samples) for gate in chosen]
        report = run_gates(limited, baselines=baselines, progress=progress)
    return presentation.show(_complete(report, file, path))


def select(gates: Sequence[Gate], only: Sequence[str], skip: Sequence[str]) -> list[Gate]:
    """The gates to run.

    Raises:
        BadParameter: A name matches no gate, or none is left: a misspelt gate must not pass for a gate that passed.
    """
    names = [gate.name for gate in gates]
    for option, patterns in (("--only", only), ("--skip", skip)):
        for pattern in patterns:
            if not _matches(names, [pattern]):
                near = difflib.get_close_matches(pattern, names, n=1)
                known = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(names)}."
                raise click.BadParameter(
                    f"no gate is called '{pattern}'. {known}", click.get_current_context(), param_hint=f"'{option}'"
                )
    kept = set(_matches(names, only) if only else names) - set(_matches(names, skip))
    if not kept:
        raise click.UsageError("--only and --skip leave no gate to run.", click.get_current_context())
    return [gate for gate in gates if gate.name in kept]


def _matches(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Names may hold brackets, which would be character sets to fnmatch: a name always matches itself."""
    return [name for name in names if any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)]


def _limited(gate: Gate, most: int | None) -> Gate:
    return gate if most is None else dataclasses.replace(gate, max_samples=min(most, gate.max_samples or most))


def _complete(report: GateReport, file: GatesFile, path: str) -> GateReport:
    """Gates that were left out are in the report too, and each result says how to get it again."""
    from ort_quant_plugin.gates.measurement import GateResult

    results = {result.name: result for result in report.results}
    complete = [
        results.get(gate.name) or GateResult(gate.to_dict(), "not run", error="Left out by --only or --skip.")
        for gate in file.gates
    ]
    for result in complete:
        result.where = f"{path}:{file.lines[result.name]}"
        result.rerun = f"ort-quant gate run {shlex.quote(path)} --only {shlex.quote(result.name)}"
    return dataclasses.replace(report, results=complete)
