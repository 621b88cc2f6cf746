"""``ort-quant gate report``."""

from __future__ import annotations

import click

from ort_quant_plugin.cli import gate_output, options
from ort_quant_plugin.cli.output import get_output

__all__ = ["command"]


@click.command("report")
@click.argument("path", metavar="REPORT.json")
@gate_output.format_option("Form of the report.")
@click.option("-o", "--out", metavar="FILE", help="Write it there instead of to stdout.")
@options.output_options
def command(path: str, style: str, out: str | None) -> None:
    """Turn a saved report into another form: what failed stays failed, but the exit code is 0.

    \b
    ort-quant gate report gates.json --format markdown >> "$GITHUB_STEP_SUMMARY"
    ort-quant gate report gates.json --format gitlab --out gl-code-quality-report.json
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.files import write_text
    from ort_quant_plugin.gates.report import read_report

    output = get_output()
    report = read_report(path)
    if style == "text" and out is None:
        output.result(report.to_dict(), gate_output.parts(output, report, path))
        return
    text = gate_output.rendered(report, style, path)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
        output.note(f"written: {out}")
