"""Calibration and conversion, ours and other tools', on one model and the same samples: time, memory, quality.

    python benchmarks/calibration.py
    python benchmarks/calibration.py --model net.onnx --images labels.csv --markdown benchmarks/results/calibration.md

See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import catalogue
import venvs
from command import add_common, folder, positive, say, shown, write
from harness import ChildError, interleaved, run_child
from jobs import CALIBRATION, EVALUATION, REPEATED, Job
from report import Flatness, Row, document, markdown, print_report
from tables import machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalogue import Tool
    from harness import Run

__all__ = ["main"]


class Benchmark:
    """One run of the command: its settings and its working folder."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments = arguments
        self._work = work
        self._runtime = ""
        self._job = Job(
            model=str(work / "model.onnx" if arguments.model is None else arguments.model.resolve()),
            prepared=str(work / "prepared.onnx"),
            samples=str(work / "samples.csv"),
            split=CALIBRATION,
            mean=tuple(arguments.mean),
            std=tuple(arguments.std),
            resize=arguments.resize,
            crop=arguments.crop,
            out=str(work / "prepare"),
        )
        self.settings: dict[str, object] = {"repeats": arguments.repeats}
        self.notes: list[str] = []
        self.problems: list[str] = []

    def prepare(self) -> None:
        """Write the list of samples and the prepared model."""
        given = self.arguments
        options = {
            "images": None if given.images is None else str(given.images.resolve()),
            "split": given.split,
            "eval_split": given.eval_split,
            "count": given.count,
            "eval_count": given.eval_count,
            "flat": given.flat,
        }
        found = self._run("prepare", dataclasses.replace(self._job, options=options)).result.values
        self._runtime = found["runtime"]
        self.settings |= {name: found[name] for name in ("calibration", "evaluation")}
        self.notes += [] if found["note"] is None else [found["note"]]
        self.settings |= {"model": Path(given.model).name if given.model else "digits (shipped)"}
        self.settings |= {name: getattr(given, name) for name in ("mean", "std", "resize", "crop")}

    def measure(self, tools: Sequence[Tool]) -> list[Row]:
        """Run every tool once per round; one that fails is not tried again."""
        rows = {tool.name: Row(tool) for tool in tools}
        pythons = {row.tool.name: python for row in rows.values() if (python := self._python(row)) is not None}
        ready = [tool for tool in tools if tool.name in pythons]
        for i, tool in interleaved(ready, self.arguments.repeats):
            if rows[tool.name].problem is None:
                self._measure_once(rows[tool.name], i, pythons[tool.name])
        return list(rows.values())

    def _measure_once(self, row: Row, i: int, python: Path) -> None:
        tool = row.tool
        out = str(self._work / tool.name / str(i) / "out")
        job = dataclasses.replace(self._job, options=tool.options, out=out)
        try:
            row.runs.append(self._run(tool.module, job, python, foreign=tool.environment is not None))
        except ChildError as error:
            row.problem = f"failed: {error}"
            say(f"round {i + 1}: {tool.label} {row.problem}")
        else:
            say(f"round {i + 1}: {tool.label}: {row.runs[-1].result.seconds:.2f} s")

    def score(self, rows: Sequence[Row]) -> None:
        """Judge the models of the last round, all by the same program."""
        written = {
            f"{row.tool.name}/{kind}": (row, kind, path)
            for row in rows
            if row.problem is None
            for kind, path in row.runs[-1].result.models.items()
            if kind != "ascend"  # made for other hardware
        }
        if not self.settings["evaluation"]:
            return
        options = {"models": {name: path for name, (_, _, path) in written.items()}}
        job = dataclasses.replace(self._job, split=EVALUATION, options=options, out=str(self._work / "score"))
        try:
            scores = self._run("score", job).result.values
        except ChildError as error:  # the times are worth their minutes all the same
            self.problems.append(f"The models could not be judged: {error}")
            return
        for name, (row, kind, _) in written.items():
            row.scores[kind] = scores[name]
        for row in rows:
            if row.tool == catalogue.PLAIN:
                row.scores["float"] = scores["float"]

    def flatness(self) -> Flatness | None:
        """Our memory over the samples and over many times as many."""
        if not self.arguments.flat:
            return None
        few, many = int(str(self.settings["calibration"])), int(self.arguments.flat)
        flat = Flatness(few, many)
        for i, (split, runs) in interleaved(
            [(CALIBRATION, flat.few_runs), (REPEATED, flat.many_runs)], self.arguments.repeats
        ):
            out = self._work / "flat" / split / str(i) / "out"
            job = dataclasses.replace(self._job, split=split, options=catalogue.OURS.options, out=str(out))
            try:
                runs.append(self._run(catalogue.OURS.module, job))
            except ChildError as error:
                self.problems.append(f"Memory over more samples was not measured: {error}")
                return None
            say(f"memory, {few if split == CALIBRATION else many} samples: {runs[-1].peak_mb:.0f} MiB")
        return flat

    def _python(self, row: Row) -> Path | None:
        """Interpreter of a tool; without one the row says why."""
        if row.tool.environment is None:
            return Path(sys.executable)
        try:
            return venvs.ensure(row.tool.environment, self.arguments.cache, self.arguments.peer_python, self._runtime)
        except venvs.EnvironmentUnavailableError as error:
            row.problem = f"skipped: {error}"
            say(f"{row.tool.label} {row.problem}")
            return None

    def _run(self, module: str, job: Job, python: Path | None = None, *, foreign: bool = False) -> Run:
        # NNCF_CI turns NNCF's usage statistics off; our own path is of no use in another environment.
        env = {"PYTHONPATH": "", "NNCF_CI": "1"} if foreign else {}
        return run_child(
            python or Path(sys.executable), module, job, Path(job.out).parent, timeout=self.arguments.timeout, env=env
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 unless a tool that is there fails."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if (arguments.model is None) != (arguments.images is None):
        parser.error("--model and --images belong together; without both, the shipped digits are used")
    tools = _tools(arguments, parser)
    host = machine()
    with folder(arguments.keep) as work:
        benchmark = Benchmark(arguments, work)
        try:
            benchmark.prepare()
        except ChildError as error:
            say(f"error: {error}")
            return 1
        rows = benchmark.measure(tools)
        benchmark.score(rows)
        flatness = benchmark.flatness()
    report = document(benchmark.settings, host, rows, flatness, [*benchmark.notes, *benchmark.problems])
    print_report(report)
    if arguments.json:
        write(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.markdown:
        write(arguments.markdown, markdown(report, shown("calibration.py", sys.argv[1:] if argv is None else argv)))
    failed = any(row.problem is not None and row.problem.startswith("failed") for row in rows)
    return int(failed or bool(benchmark.problems))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--model", type=Path, help="float ONNX model with one input (default: the shipped digits network)")
    add("--count", type=positive, metavar="N", help="samples to calibrate with, at most; of a folder: default half")
    add("--eval-count", type=positive, metavar="N", help="samples to judge with, at most")
    add("--resize", type=positive, metavar="SIDE", help="length of the short side before the crop (default: as it is)")
    add("--crop", type=positive, default=224, metavar="SIDE", help="centre crop (default: %(default)s)")
    add("--tools", default=",".join(catalogue.DEFAULT), metavar="A,B", help="default: %(default)s; also ours-exact")
    add("--methods", default="", metavar="A,B", help="one more row of ours for each calibration method")
    add("--workers", type=positive, metavar="N", help="one more row of ours, over N processes")
    add("--flat", type=positive, metavar="N", help="also our memory over N samples, the same ones repeated")
    add_common(parser, repeats=5)
    return parser


def _tools(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Tool]:
    names = [name for name in arguments.tools.split(",") if name]
    unknown = [name for name in names if name not in catalogue.TOOLS]
    if unknown or not names:
        parser.error(f"unknown tools: {', '.join(unknown) or 'none given'}; there are {', '.join(catalogue.TOOLS)}")
    tools = [catalogue.TOOLS[name] for name in dict.fromkeys(names)]
    tools += [catalogue.of_method(method) for method in arguments.methods.split(",") if method]
    return tools + ([catalogue.of_workers(arguments.workers)] if arguments.workers else [])


if __name__ == "__main__":
    sys.exit(main())
