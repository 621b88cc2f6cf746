"""``ort-quant prepare``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import get_output

if TYPE_CHECKING:
    from ort_quant_plugin.calibration.methods import Storage

__all__ = ["command"]


@click.command("prepare")
@options.model_argument("Float ONNX model")
@click.option(
    "-c", "--config", metavar="FILE.json", help="Configuration from 'ort-quant config'.  [default: quantize everything]"
)
@click.option("-o", "--out", "modified", metavar="FILE.onnx", required=True, help="Calibration model to write.")
@click.option("--record", metavar="FILE.txt", required=True, help="Record file to write; calibration fills it in.")
@click.option(
    "--batch-num", type=click.IntRange(1), help="Batches calibration will use, without --config.  [default: 1]"
)
@options.storage_option
@options.op_library_option
@options.force_option
@options.json_option
def command(
    *,
    model: str,
    config: str | None,
    modified: str,
    record: str,
    batch_num: int | None,
    storage: Storage,
    op_libraries: tuple[str, ...],
    force: bool,
) -> None:
    """Fuse the graph, quantize the weights and insert calibration operators.

    Run the result with 'ort-quant calibrate', or in any ONNX Runtime session with the custom-op library.
    """
    from ort_quant_plugin import api
    from ort_quant_plugin.model import refuse_existing

    if config is not None and batch_num is not None:
        raise click.UsageError(
            "--batch-num has no effect beside a configuration file: write it into the file.",
            click.get_current_context(),
        )
    output = get_output()
    refuse_existing([Path(modified), Path(record)], force=force)
    with tempfile.TemporaryDirectory(prefix="ort-quant-") as folder:
        if config is None:
            config = f"{folder}/config.json"
            api.create_quant_config(config, model, batch_num=batch_num or 1, op_libraries=op_libraries)
        api.quantize_model(config, model, modified, record, storage=storage, op_libraries=op_libraries)
    written = {"model": Path(modified), "record": Path(record)}
    output.result({"outputs": written}, [views.file_table(output, written)])
