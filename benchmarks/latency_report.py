"""Times of nets and models as tables, as JSON and as Markdown."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import per_layer
from catalogue import OPENVINO, ORT_QDQ
from harness import median, ratio
from tables import Table, busy, markdown_page, number, print_tables, versions_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from catalogue import Contender
    from harness import Run

__all__ = ["NetReport", "Timing", "document", "markdown", "print_report"]

MIB = 1024 * 1024
_DEPLOY = "ours/ascend"
_RATIOS = ((ORT_QDQ.name, "÷ ORT"), (OPENVINO.name, "÷ OV"))


@dataclass
class Timing:
    """One model of one net.

    Attributes:
        contender: What runs it.
        file: Where it is.
        runs: By number of threads, one a round.
        problem: Why there are none: ``skipped: …`` or ``failed: …``.
        score: What the judge says of its outputs.
    """

    contender: Contender
    file: str = ""
    runs: dict[int, list[Run]] = field(default_factory=dict)
    problem: str | None = None
    score: dict[str, Any] = field(default_factory=dict)


@dataclass
class NetReport:
    """One net.

    Attributes:
        name: For JSON.
        label: For people.
        batches: Batch sizes timed.
        threads: Numbers of threads.
        shape: One sample.
        images: What the samples are.
        sizes: Bytes of ``float`` and of each model by ``converter/kind``.
        timings: Its models.
        layers: What :func:`per_layer.compare` gives, if asked for.
        notes: What there is to know.
        problems: What went wrong.
    """

    name: str
    label: str
    batches: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)
    images: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    timings: list[Timing] = field(default_factory=list)
    layers: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def document(settings: Mapping[str, Any], host: Mapping[str, Any], nets: Sequence[NetReport]) -> dict[str, Any]:
    """The JSON document: every measurement, and what the tables show."""
    return {
        "schema": "ort-quant/benchmark-latency/1",
        "machine": dict(host),
        "settings": dict(settings),
        "nets": [_net(net) for net in nets],
    }


def _net(net: NetReport) -> dict[str, Any]:
    plain = ("name", "label", "batches", "threads", "shape", "images", "sizes", "layers", "notes", "problems")
    size = net.sizes.get(_DEPLOY)
    return {
        **{name: getattr(net, name) for name in plain},
        "deploy_to_float": None if size is None else size / net.sizes["float"],
        "rows": [_row(net, timing) for timing in net.timings],
    }


def _row(net: NetReport, timing: Timing) -> dict[str, Any]:
    by_name = {other.contender.name: other for other in net.timings}
    contender = timing.contender
    size = net.sizes.get("float" if contender.converter is None else f"{contender.converter.name}/{contender.kind}")
    first = timing.runs.get(net.threads[0], [])
    return {
        "row": contender.name,
        "label": contender.label,
        "problem": timing.problem,
        "versions": first[0].result.versions if first else {},
        "bytes": size,
        "to_float_bytes": None if size is None else size / net.sizes["float"],
        "memory": _memory(first),
        "score": timing.score,
        "times": [
            _time(timing, threads, batch, by_name, net.threads[0]) for threads in timing.runs for batch in net.batches
        ],
        "runs": {str(threads): [asdict(run) for run in runs] for threads, runs in timing.runs.items()},
    }


def _memory(runs: Sequence[Run]) -> dict[str, float | None]:
    """MiB of a process that has loaded the model and run the first batch size with the first number of threads."""
    if not runs:
        return {}
    return {
        "resident_mb": statistics.median(run.result.values["resident_mb"] for run in runs),
        "peak_mb": median(runs, "peak_mb"),
        "libraries_mb": median(runs, "libraries_mb"),
    }


def _time(timing: Timing, threads: int, batch: int, others: Mapping[str, Timing], fewest: int) -> dict[str, Any]:
    runs, name = timing.runs[threads], f"batch{batch}"
    values = [run.result.parts[name] for run in runs]
    against = {
        base: ratio(runs, name, others[base].runs.get(threads, []), name) if base in others else None
        for base, _ in _RATIOS
    }
    return {
        "threads": threads,
        "batch": batch,
        "ms": 1e3 * (median(runs, name) or 0.0),
        "least_ms": 1e3 * min(values),
        "most_ms": 1e3 * max(values),
        "ratios": {**against, "fewest_threads": ratio(runs, name, timing.runs.get(fewest, []), name)},
    }


def _times_table(report: Mapping[str, Any]) -> Table:
    batches = list(dict.fromkeys(batch for net in report["nets"] for batch in net["batches"]))
    columns = ("ms", "min–max", *(heading for _, heading in _RATIOS), "÷ 1 thread")
    headings = ["net", "model", "threads", *(f"b{batch} {column}" for batch in batches for column in columns)]
    table = Table(headings, frozenset({"net", "model"}))
    for net, row in _rows(report):
        if row["problem"] is not None:
            table.problems.append((f"{net['label']}, {row['label']}", row["problem"]))
            continue
        for threads in net["threads"]:
            times = {time["batch"]: time for time in row["times"] if time["threads"] == threads}
            cells = [cell for batch in batches for cell in _time_cells(times.get(batch), threads)]
            table.rows.append([net["label"], row["label"], str(threads), *cells])
    return table


def _time_cells(time: Mapping[str, Any] | None, threads: int) -> list[str]:
    if time is None:
        return [""] * (3 + len(_RATIOS))
    spread = f"{time['least_ms']:.2f}–{time['most_ms']:.2f}"
    ratios = [number(time["ratios"][key], 2) for key, _ in _RATIOS]
    scaled = "" if threads == 1 else number(time["ratios"]["fewest_threads"], 2)
    return [number(time["ms"], 2), spread, *ratios, scaled]


_FILE_HEADINGS = (
    *("net", "model", "file MiB", "÷ float", "resident MiB", "peak MiB", "(libraries)"),
    *("SQNR dB", "agree %", "threads, batches", "fake-quant"),
)


def _files_table(report: Mapping[str, Any]) -> Table:
    left = frozenset({"net", "model", "threads, batches", "fake-quant"})
    table = Table(_FILE_HEADINGS, left, title="Files, memory, outputs")
    for net, row in _rows(report):
        if row["problem"] is None:
            table.rows.append([net["label"], row["label"], *_file_cells(row)])
    for net in report["nets"]:
        if _DEPLOY in net["sizes"]:
            sizes = [number(net["sizes"][_DEPLOY] / MIB, 2), number(net["deploy_to_float"], 3)]
            table.rows.append([net["label"], "ours: deploy model", *sizes, *[""] * (len(_FILE_HEADINGS) - 4)])
    return table


def _file_cells(row: Mapping[str, Any]) -> list[str]:
    score, memory = row["score"], row["memory"]
    agreement = score.get("agreement")
    ours = row["row"] == "ours"
    return [
        number(row["bytes"] / MIB, 2),
        number(row["to_float_bytes"], 3),
        *(number(memory[name], 0) for name in ("resident_mb", "peak_mb", "libraries_mb")),
        number(score.get("sqnr_db"), 2),
        number(None if agreement is None else 100 * agreement, 1),
        {True: "same bits", False: "differ", None: "–"}[score.get("same")],
        {True: "same bits", False: "DIFFER", None: "–"}[score.get("exact") if ours else None],
    ]


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return ((net, row) for net in report["nets"] for row in net["rows"])


def _tables(report: Mapping[str, Any]) -> list[Table]:
    layers = [per_layer.table_of(net["label"], net["layers"]) for net in report["nets"] if net["layers"] is not None]
    return [_times_table(report), _files_table(report), *layers]


def _remarks(report: Mapping[str, Any]) -> list[str]:
    settings = report["settings"]
    rounds = (
        f"{settings['repeats']} rounds; in each, every model runs for {settings['seconds']} s, alone in its process"
    )
    found = [f"{rounds}. Times are medians of the rounds' medians, ratios medians of the ratios within a round."]
    for net in report["nets"]:
        shape = "×".join(map(str, net["shape"]))
        if shape:
            found.append(f"{net['label']}: {shape}, calibrated and judged on {net['images']}.")
        found += [*net["notes"], *net["problems"]]
    return found + busy(report["machine"])


def print_report(report: Mapping[str, Any]) -> None:
    """The tables and the remarks on the terminal."""
    print_tables(_tables(report), _remarks(report))


def markdown(report: Mapping[str, Any], command: str) -> str:
    """The tables as a Markdown page."""
    versions = {row["label"]: row["versions"] for _, row in _rows(report)}
    lines = markdown_page("Latency", command, report["machine"], _tables(report), _remarks(report))
    return "\n".join([*lines, *versions_table(versions)])
