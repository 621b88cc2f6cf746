"""Time of one inference: float, ONNX Runtime's int8, OpenVINO's int8 and ours, on the same nets in one run.

    python benchmarks/latency.py
    python benchmarks/latency.py --model efficientnet_lite0.onnx --nets resnet50,mobilenetv2,ppocr-cls --per-layer

See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import catalogue
import per_layer
import venvs
from command import add_common, folder, positive, say, shown, write
from harness import ChildError, interleaved, run_child
from jobs import CALIBRATION, Job
from latency_report import NetReport, Timing, document, markdown, print_report
from tables import machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalogue import Contender, Tool
    from harness import Run

__all__ = ["main"]

_DIGITS, _PPOCR = "digits", "ppocr-cls"
_NETS = {
    _DIGITS: "digits (shipped)",
    "resnet50": "ResNet-50-shaped",
    "mobilenetv2": "MobileNetV2-shaped",
    _PPOCR: "PP-OCR cls",
}
_SHAPES = {_PPOCR: (3, 48, 192)}


@dataclasses.dataclass(frozen=True)
class Net:
    """What to time: one of ours by name, or a file."""

    name: str
    label: str
    file: Path | None


class NetBenchmark:
    """One net: made, converted by every tool, timed in rounds, judged."""

    def __init__(self, net: Net, arguments: argparse.Namespace, work: Path) -> None:
        self._net = net
        self._arguments = arguments
        self._work = work
        self._shape: list[int] = []
        self._runtime = ""
        self._models: dict[str, dict[str, str]] = {}
        self.report = NetReport(net.name, net.label)
        self._job = Job(
            model=str(work / "model.onnx"),
            prepared=str(work / "prepared.onnx"),
            samples=str(work / "samples.csv"),
            split=CALIBRATION,
            mean=tuple(arguments.mean),
            std=tuple(arguments.std),
            resize=None,
            crop=None,
            out="",
        )

    def run(self, contenders: Sequence[Contender]) -> NetReport:
        """Everything; what fails is in the report."""
        try:
            self._prepare()
        except ChildError as error:
            self.report.problems.append(f"{self._net.label} could not be made: {error}")
            return self.report
        self.report.timings = [Timing(contender) for contender in contenders]
        for timing in self.report.timings:
            self._convert(timing)
        ready = [timing for timing in self.report.timings if timing.problem is None]
        self._measure(ready)
        self._judge([timing for timing in ready if timing.problem is None])
        if self._arguments.per_layer:
            self._profile([timing for timing in ready if timing.problem is None])
        return self.report

    def _prepare(self) -> None:
        given = self._arguments
        options = {
            "net": self._net.name,
            "file": None if self._net.file is None else str(self._net.file.resolve()),
            "shape": list(_SHAPES.get(self._net.name, given.shape)),
            "images": None if given.images is None else str(given.images.resolve()),
            "split": given.split,
            "eval_split": given.eval_split,
            "count": given.count,
            "eval_count": given.eval_count,
        }
        found = self._child("latency_inputs", "prepare", options).result.values
        self._shape, self._runtime = found["shape"], found["runtime"]
        batches, fixed = list(given.batches), found["batch"]
        if fixed is not None and batches != [fixed]:
            batches = [fixed]
            self.report.notes.append(f"{self._net.label} has a fixed batch size: {fixed} only.")
        self.report.notes += [] if found["note"] is None else [found["note"]]
        self.report.batches, self.report.threads = batches, list(given.threads)
        self.report.images, self.report.shape = found["images"], found["shape"]
        self.report.sizes["float"] = Path(self._job.model).stat().st_size

    def _convert(self, timing: Timing) -> None:
        """Find the file to time, converting where no row before this one has."""
        tool = timing.contender.converter
        if tool is None:
            timing.file = self._job.model
            return
        python = self._python(timing)
        if python is None:
            return
        try:
            if tool.name not in self._models:
                run = self._child(tool.module, f"convert-{tool.name}", self._options_of(tool), python, tool)
                self._models[tool.name] = run.result.models
                self.report.sizes |= {f"{tool.name}/{kind}": _size(path) for kind, path in run.result.models.items()}
        except ChildError as error:
            timing.problem = f"failed: {error}"
            say(f"{self._net.label}, {timing.contender.label} {timing.problem}")
        else:
            timing.file = self._models[tool.name][timing.contender.kind]

    def _options_of(self, tool: Tool) -> Mapping[str, Any]:
        if tool != catalogue.OURS:
            return tool.options
        kinds = {timing.contender.kind for timing in self.report.timings if timing.contender.converter == tool}
        return {"targets": [*sorted(kinds), "fake_quant", "ascend"]}

    def _python(self, timing: Timing) -> Path | None:
        environment = timing.contender.environment
        if environment is None:
            return Path(sys.executable)
        try:
            return venvs.ensure(environment, self._arguments.cache, self._arguments.peer_python, self._runtime)
        except venvs.EnvironmentUnavailableError as error:
            timing.problem = f"skipped: {error}"
            say(f"{timing.contender.label} {timing.problem}")
            return None

    def _measure(self, timings: Sequence[Timing]) -> None:
        """Every model once per round with every number of threads; one that fails is not tried again."""
        settings = [(timing, threads) for threads in self.report.threads for timing in timings]
        for i, (timing, threads) in interleaved(settings, self._arguments.repeats):
            if timing.problem is not None:
                continue
            options = {"batches": self.report.batches, "outputs": i == 0}
            name = f"{timing.contender.name}/{threads}/{i}"
            try:
                run = self._time(timing, name, threads, options)
            except ChildError as error:
                timing.problem = f"failed: {error}"
                say(f"{self._net.label}, {timing.contender.label} {timing.problem}")
                continue
            timing.runs.setdefault(threads, []).append(run)
            times = ", ".join(f"{1e3 * seconds:.2f}" for seconds in run.result.parts.values())
            say(f"{self._net.label}, round {i + 1}: {timing.contender.label}, threads {threads}: {times} ms")

    def _time(
        self, timing: Timing, name: str, threads: int, options: Mapping[str, Any], module: str | None = None
    ) -> Run:
        contender = timing.contender
        every = {
            "file": timing.file,
            "threads": threads,
            "custom_ops": contender.custom_ops,
            "optimize": True,
            "shape": self._shape,
            "seconds": self._arguments.seconds,
        }
        python = self._python(timing) or Path(sys.executable)
        return self._child(module or contender.engine, name, {**every, **options}, python, contender.converter)

    def _judge(self, timings: Sequence[Timing]) -> None:
        """Compare what the models answered in the first round."""
        answers = {
            timing.contender.name: [
                str(self._work / timing.contender.name / str(threads) / "0" / "out" / "outputs.npz")
                for threads in self.report.threads
            ]
            for timing in timings
        }
        try:
            options = {
                "answers": answers,
                "float": answers.get(catalogue.FLOAT.name, [None])[0],
                "fake_quant": self._fake_quant(timings),
            }
            scores = self._child("timing.judge", "judge", options).result.values
        except ChildError as error:  # the times are worth their minutes all the same
            self.report.problems.append(f"The outputs of {self._net.label} could not be judged: {error}")
            return
        for timing in timings:
            timing.score = scores[timing.contender.name]

    def _fake_quant(self, timings: Sequence[Timing]) -> str | None:
        """Answers of the fake-quant model as it is written: what the ``ort`` model has to give bit for bit."""
        if catalogue.OURS_LOWERED not in [timing.contender for timing in timings]:
            return None
        file = self._models[catalogue.OURS.name]["fake_quant"]
        options = {"file": file, "custom_ops": True, "optimize": False, "batches": self.report.batches[:1]}
        alike = {"threads": 1, "seconds": 0, "outputs": True, "shape": self._shape}
        self._child("timing.ort", "fake-quant", {**options, **alike})
        return str(self._work / "fake-quant" / "out" / "outputs.npz")

    def _profile(self, timings: Sequence[Timing]) -> None:
        """Time per node of our model and of ONNX Runtime's, one thread."""
        chosen = [t for t in timings if t.contender in (catalogue.OURS_LOWERED, catalogue.ORT_QDQ)]
        if not chosen:
            return
        profiles: dict[str, list[list[dict[str, Any]]]] = {}
        try:
            peaks = [per_layer.peak(self._arguments)]
            for i, timing in interleaved(chosen, self._arguments.repeats):
                name = f"layers/{timing.contender.name}/{i}"
                options = {"batches": self.report.batches[:1]}
                run = self._time(timing, name, 1, options, "timing.layers")
                profiles.setdefault(timing.contender.name, []).append(run.result.values["nodes"])
            peaks.append(per_layer.peak(self._arguments))
        except ChildError as error:
            self.report.problems.append(f"The layers of {self._net.label} were not timed: {error}")
            return
        ours = profiles.get(catalogue.OURS_LOWERED.name, [])
        base = profiles.get(catalogue.ORT_QDQ.name, [])
        # Clock rates move: the machine's best is the bound.
        known = [value for value in peaks if value is not None]
        self.report.layers = per_layer.compare(ours, base, max(known) if known else None, self.report.batches[0])

    def _child(
        self,
        module: str,
        name: str,
        options: Mapping[str, Any],
        python: Path | None = None,
        tool: Tool | None = None,
    ) -> Run:
        at = self._work / name
        job = dataclasses.replace(self._job, options=dict(options), out=str(at / "out"))
        # NNCF_CI turns NNCF's usage statistics off; our own path is of no use in another environment.
        env = {"PYTHONPATH": "", "NNCF_CI": "1"} if tool is not None and tool.environment is not None else {}
        return run_child(python or Path(sys.executable), module, job, at, timeout=self._arguments.timeout, env=env)


def _size(path: str) -> int:
    """Bytes of a model, with OpenVINO's weights, which are a file of their own."""
    weights = Path(path).with_suffix(".bin")
    return Path(path).stat().st_size + (weights.stat().st_size if weights.is_file() else 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 unless a tool that is there fails."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    contenders = _contenders(arguments, parser)
    nets = _nets(arguments, parser)
    host = machine()
    with folder(arguments.keep) as work:
        reports = []
        for i, net in enumerate(nets):
            reports.append(NetBenchmark(net, arguments, work / f"{i}-{net.name}").run(contenders))
    names = ("repeats", "seconds", "count", "eval_count", "mean", "std")
    report = document({name: getattr(arguments, name) for name in names}, host, reports)
    print_report(report)
    if arguments.json:
        write(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.markdown:
        write(arguments.markdown, markdown(report, shown("latency.py", sys.argv[1:] if argv is None else argv)))
    failed = any(
        timing.problem is not None and timing.problem.startswith("failed") for net in reports for timing in net.timings
    )
    return int(failed or any(net.problems for net in reports))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--model", type=Path, action="append", default=[], help="float ONNX model with one input; may be repeated")
    add("--nets", metavar="A,B", help=f"of {', '.join(_NETS)} (default: digits, if there is no --model)")
    add(
        "--ppocr-cls", type=Path, metavar="FILE", help="its model (default: that of rapidocr-onnxruntime, if installed)"
    )
    add("--shape", type=_sizes, default=[3, 224, 224], metavar="C,H,W", help="where a --model leaves it open")
    add("--rows", default=",".join(catalogue.CONTENDERS), metavar="A,B", help="default: %(default)s")
    add("--batches", type=_sizes, default=[1, 8], metavar="A,B", help="default: 1,8")
    add("--threads", type=_sizes, default=[1, 2], metavar="A,B", help="default: 1,2")
    add("--seconds", type=float, default=0.3, metavar="S", help="of inference for one measurement (%(default)s)")
    add("--count", type=positive, default=32, metavar="N", help="samples to calibrate with (default: %(default)s)")
    add("--eval-count", type=positive, default=32, metavar="N", help="samples to judge with (default: %(default)s)")
    add("--per-layer", action="store_true", help="also a table of the layers: ours and ONNX Runtime's")
    add("--peak", type=float, metavar="GMAC/s", help="int8 multiplications one core can do, for --per-layer")
    add("--bench", type=Path, metavar="FILE", help="bench_qconv of an ORT_QUANT_BENCH build, which measures that")
    add_common(parser, repeats=5)
    return parser


def _sizes(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def _contenders(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Contender]:
    names = [name for name in arguments.rows.split(",") if name]
    unknown = [name for name in names if name not in catalogue.CONTENDERS]
    if unknown or not names:
        known = ", ".join(catalogue.CONTENDERS)
        parser.error(f"unknown rows: {', '.join(unknown) or 'none given'}; there are {known}")
    return [catalogue.CONTENDERS[name] for name in dict.fromkeys(names)]


def _nets(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Net]:
    default = "" if arguments.model else _DIGITS
    names = [name for name in (default if arguments.nets is None else arguments.nets).split(",") if name]
    unknown = [name for name in names if name not in _NETS]
    if unknown:
        parser.error(f"unknown nets: {', '.join(unknown)}; there are {', '.join(_NETS)}")
    files = [Net(path.stem, path.stem, path) for path in arguments.model]
    return files + [
        Net(name, _NETS[name], arguments.ppocr_cls if name == _PPOCR else None) for name in dict.fromkeys(names)
    ]


if __name__ == "__main__":
    sys.exit(main())
