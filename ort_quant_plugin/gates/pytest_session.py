"""What a pytest run knows about its gates: which were collected, what became of them, the report at the end.

Under pytest-xdist each worker collects and measures; its results travel with pytest's test reports, the rest in one
document at its end. The controller alone reports.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from ort_quant_plugin.errors import OrtQuantError
from ort_quant_plugin.gates.pytest_marker import GATE, MARKER, collect_gates

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ort_quant_plugin.gates.evaluate import Evaluator
    from ort_quant_plugin.gates.measurement import GateResult
    from ort_quant_plugin.gates.pytest_options import GateOptions
    from ort_quant_plugin.gates.report import GateReport

__all__ = ["RESULTS", "SESSION", "GateSession", "place", "rerun_command"]

RESULTS = pytest.StashKey[list["GateResult"]]()
_REPORTED = "quant_gate_results"  # attribute of test reports
_WORKER = "quant_gates"  # entry of a worker's output


class GateSession:
    """The gates of one pytest process.

    Attributes:
        config: pytest's configuration.
        options: What the user asked for.
        usage_errors: Wrong markers that a worker has found: only the controller can tell the user.
        written: Report files.
        problems: Why the run as a whole fails although its tests may have passed.
        report: What became of the gates, once the tests have ended; ``None`` where there are none.
    """

    def __init__(self, config: pytest.Config, options: GateOptions) -> None:
        self.config = config
        self.options = options
        self.usage_errors: list[str] = []
        self.problems: list[str] = []
        self.written: list[Path] = []
        self.report: GateReport | None = None
        self._collected: dict[str, tuple[dict[str, Any], str]] = {}
        self._results: dict[str, list[GateResult]] = {}
        self._broken: dict[str, str] = {}
        self._left_out: dict[str, str] = {}
        self._uncollected: set[str] = set()
        self._started = time.perf_counter()
        self._created = datetime.now(timezone.utc).isoformat(timespec="seconds")

    @property
    def is_worker(self) -> bool:
        """Whether this process runs tests for another one, by pytest-xdist."""
        return hasattr(self.config, "workerinput")

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures; one for all gates, so that those of the same models cost one inference."""
        from ort_quant_plugin.gates.evaluate import Evaluator

        return Evaluator(environment=self.environment)

    @property
    def saved_report(self) -> str | None:
        """The report that can be judged again, as the user would type it; ``None`` where none is asked for."""
        return next((self.shown(path) for path in self.options.reports if path.suffix == ".json"), None)

    def shown(self, path: Path) -> str:
        """A path as seen from the folder where pytest was started."""
        here = self.config.invocation_params.dir
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def environment(self) -> dict[str, str]:
        """Describe this process's environment, with what the hook ``pytest_quant_machine_info`` makes of it."""
        from ort_quant_plugin.gates.environment import environment

        changed, removed = self._machine_info
        return {name: value for name, value in environment().items() if name not in removed} | changed

    @cached_property
    def _machine_info(self) -> tuple[dict[str, str], set[str]]:
        """What the hook has set, as text, and what it has taken away."""
        from ort_quant_plugin.gates.environment import environment

        before = environment()
        info: dict[Any, Any] = dict(before)
        self.config.hook.pytest_quant_machine_info(config=self.config, info=info)
        after = {str(name): str(value) for name, value in info.items()}
        return {name: value for name, value in after.items() if before.get(name) != value}, before.keys() - after.keys()

    def collect(self, items: list[pytest.Item]) -> None:
        """Find the gates, and leave out what the options leave out.

        Raises:
            pytest.UsageError: Markers are wrong.
        """
        gates, errors = collect_gates(items, self.options)
        self._collected = {item.nodeid: (item.stash[GATE].to_dict(), place(item)) for item in gates}
        if errors and not self.is_worker:
            raise pytest.UsageError(*errors)
        if errors:
            self.usage_errors = errors
            items.clear()
        if self.options.skip:
            for item in items:
                if GATE in item.stash:
                    item.add_marker(pytest.mark.skip(reason="--quant-skip"))
        if self.options.only:
            others = [item for item in items if GATE not in item.stash]
            items[:] = [item for item in items if GATE in item.stash]
            self.config.hook.pytest_deselected(items=others)

    def uncollected(self, nodeid: str) -> None:
        """Remember a file or folder that was skipped while it was collected, if it may have gates."""
        path = self.config.rootpath / nodeid.partition("::")[0]
        if not path.is_file() or MARKER in path.read_text(encoding="utf-8", errors="replace"):
            self._uncollected.add(nodeid)

    def fail_if_missed(self, item: pytest.Item) -> None:
        """Fail a test that has caught the failure of its gate."""
        for result in item.stash.get(RESULTS, []):
            if result.status != "passed":
                from ort_quant_plugin.gates.render.text import failure_text

                pytest.fail(failure_text(result, report=self.saved_report), pytrace=False)

    def deselect(self, items: Iterable[pytest.Item]) -> None:
        """Remember the gates that will not run on purpose."""
        self._left_out.update((item.nodeid, "deselected") for item in items if GATE in item.stash)

    def attach(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Let a test report tell of the gate, and of what it has found: as text, which every transport takes.

        The first report of a test tells of the gate, so that it is known even if the process dies in the test.
        """
        if GATE not in item.stash:
            return
        results = item.stash.get(RESULTS, []) if report.when == "call" else []
        for result in results:
            if hasattr(report, "wasxfail") and result.verdict is not None:
                result.verdict.notes.append(_why_expected(report))
        document = {"gate": self._collected[item.nodeid], "results": [result.to_dict() for result in results]}
        setattr(report, _REPORTED, json.dumps(document))

    def receive(self, report: pytest.TestReport) -> None:
        """Take what a test report says about a gate."""
        document = json.loads(getattr(report, _REPORTED, "{}"))
        if "gate" in document:
            gate, where = document["gate"]
            self._collected.setdefault(report.nodeid, (gate, where))
        if document.get("results"):
            from ort_quant_plugin.gates.measurement import GateResult

            self._results[report.nodeid] = [GateResult.from_dict(result) for result in document["results"]]
            self._announce(self._results[report.nodeid])
        elif report.nodeid in self._collected and report.failed and report.when != "teardown":
            self._broken[report.nodeid] = _what_failed(report)
        elif report.nodeid in self._collected and report.skipped:
            self._left_out[report.nodeid] = _why_skipped(report)

    def send(self, workeroutput: dict[str, Any]) -> None:
        """Hand over what a worker knows and test reports do not tell."""
        document = {"collected": self._collected, "left_out": self._left_out, "errors": self.usage_errors}
        workeroutput[_WORKER] = json.dumps(document)

    def merge(self, workeroutput: dict[str, Any]) -> None:
        """Take what :meth:`send` handed over; a worker that has crashed handed over nothing."""
        document = json.loads(workeroutput.get(_WORKER, '{"collected": {}, "left_out": {}, "errors": []}'))
        self._collected = {**document["collected"], **self._collected}  # in the order of the files
        self._left_out = {**document["left_out"], **self._left_out}
        self.usage_errors = document["errors"] or self.usage_errors

    def finish(self) -> None:
        """Make the report and write it where it is wanted."""
        if self._uncollected and self.options.require_gates:
            skipped = ", ".join(sorted(self._uncollected))
            self.problems.append(f"every gate must run, but what may hold gates was skipped at collection: {skipped}.")
        if not self._collected and not self.options.reports:
            return
        from ort_quant_plugin.gates.report import GateReport

        for nodeid in self._collected:
            if nodeid not in self._results:
                self._results[nodeid] = [self._without_result(nodeid)]
                self._announce(self._results[nodeid])
        results = [result for nodeid in self._collected for result in self._results[nodeid]]
        measured = [result.measurement for result in results if result.measurement is not None]
        self.report = GateReport(
            results=results,
            environment=measured[0].environment if measured else {},
            created=self._created,
            seconds=time.perf_counter() - self._started,
        )
        missing = len(self.report.not_run)
        if missing and self.options.require_gates:
            self.problems.append(f"{missing} of {len(results)} gates did not run, and every gate must.")
        for path in self.options.reports:
            self._write(path, self.report)

    def _write(self, path: Path, report: GateReport) -> None:
        from ort_quant_plugin.gates.report import write_report

        try:
            write_report(path, report, source=self.saved_report)
        except OrtQuantError as error:
            self.problems.append(str(error))
        else:
            self.written.append(path)

    def _without_result(self, nodeid: str) -> GateResult:
        from ort_quant_plugin.gates.measurement import GateResult

        gate, where = self._collected[nodeid]
        rerun = rerun_command(self.config, nodeid)
        if nodeid in self._broken:
            return GateResult(gate, "error", error=self._broken[nodeid], rerun=rerun, where=where)
        reason = self._left_out.get(nodeid, "the run ended before it")
        return GateResult(gate, "not run", error=reason, rerun=rerun, where=where)

    def _announce(self, results: Iterable[GateResult]) -> None:
        for result in results:
            self.config.hook.pytest_quant_gate_result(config=self.config, result=result)


def place(item: pytest.Item) -> str:
    """File and line of a test, relative to pytest's rootdir."""
    path, line, _ = item.location
    return path if line is None else f"{path}:{line + 1}"


SESSION = pytest.StashKey[GateSession]()


def rerun_command(config: pytest.Config, nodeid: str) -> str:
    """The command that runs one test, from the folder where pytest was started."""
    path, separator, test = nodeid.partition("::")
    path = os.path.relpath(config.rootpath / path, config.invocation_params.dir)
    return f"pytest {shlex.quote(path + separator + test)}"


def _what_failed(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash is not None else report.longrepr).strip().splitlines()
    return lines[0] if lines else f"the test failed during {report.when}"


def _why_skipped(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return _why_expected(report)
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _why_expected(report: Any) -> str:
    reason = report.wasxfail.removeprefix("reason: ")  # which pytest 8 writes
    return f"the test is marked xfail: {reason or 'no reason given'}"
