"""Options and ini settings of the pytest plugin: declared, read and checked in one place."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ort_quant_plugin.errors import OrtQuantError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["GateOptions", "add_options", "read_options"]


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """What the command line and the ini file say about gates.

    Attributes:
        reports: Files to write the report to; the suffix chooses the format.
        baseline_dir: Folder of the baselines; ``None``: ``quant_baselines`` beside each test file.
        update_baselines: Whether to rewrite the baselines.
        only: Whether to run nothing but gates.
        skip: Whether to skip the gates.
        max_samples: Upper limit of every gate's samples.
        require_gates: Whether a gate that was collected but did not run fails the run.
        annotations: ``"github"``, ``"gitlab"`` or ``None``.
        default_max_drop: Of gates that have no threshold of their own.
        data: Of gates that name none.
        labels: Likewise.
    """

    reports: tuple[Path, ...]
    baseline_dir: Path | None
    update_baselines: bool
    only: bool
    skip: bool
    max_samples: int | None
    require_gates: bool
    annotations: str | None
    default_max_drop: float | None
    data: str | None
    labels: str | None

    @property
    def any_set(self) -> bool:
        """Whether the user has asked for anything."""
        return any(value not in (None, False, ()) for value in vars(self).values())


def add_options(parser: pytest.Parser) -> None:
    """Declare all of them."""
    group = parser.getgroup("quant", "accuracy gates of quantized models (ort-quant-plugin)")
    add = group.addoption
    add(
        "--quant-report",
        metavar="PATH",
        action="append",
        default=[],
        help="Write the gates' report: .json (can be judged again), .md or .html. May be repeated.",
    )
    add(
        "--quant-baseline-dir",
        metavar="DIR",
        help="Folder of the baselines; default: quant_baselines beside each test file.",
    )
    add(
        "--quant-update-baselines",
        action="store_true",
        help="Rewrite the baselines of the gates that run; gates whose value changes still fail.",
    )
    add("--quant-only", action="store_true", help="Run nothing but gates.")
    add("--quant-skip", action="store_true", help="Skip the gates.")
    add("--quant-max-samples", metavar="N", type=_count, help="Measure every gate on at most N samples.")
    add(
        "--quant-require-gates",
        action="store_true",
        help="Fail the run if a gate was deselected or skipped: one that did not run is not a pass.",
    )
    add(
        "--quant-format",
        choices=("github", "gitlab"),
        help="Also print failed gates as GitHub annotations or as a GitLab code quality document.",
    )
    setting = parser.addini
    setting("quant_baseline_dir", help="Folder of the baselines, relative to the rootdir.")
    setting("quant_require_gates", help="Whether every collected gate must run.", type="bool", default=False)
    setting("quant_default_max_drop", help="max_drop of gates that have no threshold of their own.")
    setting("quant_data", help="Evaluation data of gates that name none, relative to the rootdir.")
    setting("quant_labels", help="Labels of gates that name none, relative to the rootdir.")


def read_options(config: pytest.Config) -> GateOptions:
    """Read and check them.

    Raises:
        pytest.UsageError: They are wrong, or contradict each other.
    """
    option = config.getoption
    here, root = config.invocation_params.dir, config.rootpath
    given, stored = option("quant_baseline_dir"), config.getini("quant_baseline_dir")
    options = GateOptions(
        reports=tuple(here / path for path in option("quant_report")),
        baseline_dir=here / given if given else root / stored if stored else None,
        update_baselines=option("quant_update_baselines"),
        only=option("quant_only"),
        skip=option("quant_skip"),
        max_samples=option("quant_max_samples"),
        require_gates=option("quant_require_gates") or config.getini("quant_require_gates"),
        annotations=option("quant_format"),
        default_max_drop=_drop(config.getini("quant_default_max_drop")),
        data=config.getini("quant_data") or None,
        labels=config.getini("quant_labels") or None,
    )
    _check(options, last_failed=option("lf", default=False))
    return options


def _check(options: GateOptions, *, last_failed: bool) -> None:
    if options.only and options.skip:
        raise pytest.UsageError("--quant-only and --quant-skip leave nothing to run: give one of them.")
    if options.update_baselines and options.max_samples is not None:
        raise pytest.UsageError(
            "--quant-update-baselines with --quant-max-samples would store baselines of fewer samples than the gates "
            "are judged on: leave out one of them."
        )
    if options.require_gates and last_failed:
        raise pytest.UsageError(
            "--lf leaves out files unseen, so nobody knows whether every gate has run: leave out --lf or "
            "--quant-require-gates (-o quant_require_gates=false where the ini file sets it)."
        )
    if options.reports:
        from ort_quant_plugin.files import check_writable
        from ort_quant_plugin.gates.report import report_format

        try:
            for path in options.reports:
                report_format(path)
                check_writable(path.parent)
        except OrtQuantError as error:
            raise pytest.UsageError(f"--quant-report: {error}") from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of samples; expected an integer of at least 1")
    return int(text)


def _drop(text: str | None) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise pytest.UsageError(f"quant_default_max_drop is {text!r}; expected a number of at least 0, such as 0.01.")
    return value
