"""``ort-quant demo``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import Output, file_size, get_output
from ort_quant_plugin.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ort_quant_plugin.comparison import ComparisonReport
    from ort_quant_plugin.report import QuantizationReport

__all__ = ["command"]

_PREFIX = "digits"
_FLOAT = f"{_PREFIX}_float.onnx"
_DATA, _LABELS = f"{_PREFIX}_data.npy", f"{_PREFIX}_labels.npy"
_TARGETS = ("fake_quant", "ort", "qdq", "ascend")
_MEANINGS = """
fake_quant  simulates int8 in float, on any ONNX Runtime with our operators
ort         int8 on ONNX Runtime with our operators: fake_quant's results, fast
qdq         int8 on stock ONNX Runtime, nothing to install beside it
ascend      int8, input of Ascend's ATC compiler: stock ONNX Runtime has no kernels
            for it, so it is not judged here; it computes fake_quant's integers"""


@click.command("demo")
@click.option(
    "-o", "--out", "folder", metavar="DIR", default="ort-quant-demo", show_default=True, help="Folder to write into."
)
@click.option("--force", is_flag=True, help="Write into a folder that holds other files too.")
@options.json_option
def command(folder: str, force: bool) -> None:
    """Quantize a small network that reads handwritten digits, and judge every model it writes."""
    import numpy as np

    from ort_quant_plugin.api import quantize
    from ort_quant_plugin.calibration.data import open_data
    from ort_quant_plugin.comparison import compare
    from ort_quant_plugin.demo import demo_model_path, load_digits
    from ort_quant_plugin.model import input_specs, read_model

    output = get_output()
    target = Path(folder)
    _check_folder(target, force=force)
    digits = load_digits()
    with output.progress() as progress:
        # 20 batches of 5: the ranges come from data the network has not to be judged on.
        report = quantize(
            demo_model_path(),
            digits.calibration,
            target / _PREFIX,
            targets=_TARGETS,
            batch_size=5,
            progress=progress or False,
            force=True,
        )
        model = target / _FLOAT
        shutil.copyfile(demo_model_path(), model)
        np.save(target / _DATA, digits.evaluation)
        np.save(target / _LABELS, digits.labels)
        runnable = [report.outputs[name] for name in ("fake_quant", "ort", "qdq")]
        data = open_data(digits.evaluation, input_specs(read_model(model)), batch_size=50)
        comparison = compare(model, runnable, data, labels=digits.labels, progress=progress)
    for warning in report.warnings:
        output.note(warning)
    document = {
        "folder": str(target),
        "quantization": report.to_dict(),
        "comparison": comparison.to_dict(),
        "sizes": {name: path.stat().st_size for name, path in {"float": model, **report.outputs}.items()},
    }
    output.result(document, _parts(output, target, report, comparison))


def _check_folder(folder: Path, *, force: bool) -> None:
    """The demo overwrites its own files, nobody else's."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", hint="Choose another folder with --out.", path=str(folder))
    strangers = (
        sorted(path.name for path in folder.iterdir() if not path.name.startswith(f"{_PREFIX}_"))
        if folder.exists()
        else []
    )
    if strangers and not force:
        raise OutputError(
            f"Folder {folder} holds files that are not the demo's: {', '.join(strangers[:3])}.",
            hint="Choose another folder with --out, or write into this one with --force.",
            path=str(folder),
        )


def _parts(
    output: Output, folder: Path, report: QuantizationReport, comparison: ComparisonReport
) -> Iterator[RenderableType]:
    assert comparison.accuracy is not None
    judged = {candidate.path: candidate for candidate in comparison.candidates}
    rows = [["float", views.percent(comparison.accuracy.top1), "-", file_size(folder / _FLOAT), _FLOAT]]
    for target in _TARGETS:
        path = report.outputs[target]
        candidate = judged.get(path)
        accuracy = candidate.accuracy.top1 if candidate and candidate.accuracy else None
        agreement = candidate.outputs[0].agreement if candidate else None
        rows.append([target, views.percent(accuracy), views.percent(agreement), file_size(path), path.name])
    files = {"data": folder / _DATA, "labels": folder / _LABELS}
    yield (
        f"{views.layer_summary(report.layers)}; calibrated on 100 digits, judged on {comparison.samples} others, "
        f"in {report.seconds + comparison.seconds:.1f} s"
    )
    yield ""
    yield output.table(
        ["Model", ("Accuracy", "right"), ("Agreement", "right"), ("Size", "right"), f"File in {folder}"], rows
    )
    yield _MEANINGS
    yield "\nNext:"
    yield f"  ort-quant inspect {report.outputs['fake_quant']}"
    yield (
        f"  ort-quant compare {folder / _FLOAT} {report.outputs['fake_quant']} "
        f"--data {files['data']} --labels {files['labels']} --layers"
    )
    yield "  ort-quant quantize YOUR.onnx --data YOUR_IMAGES/ --mean 127 --std 128 --out out/YOUR"
