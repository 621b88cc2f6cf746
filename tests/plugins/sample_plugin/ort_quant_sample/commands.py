"""A subcommand: ort-quant widest-ranges RECORD."""

from __future__ import annotations

import click

from ort_quant_plugin.record import Record


@click.command()
@click.argument("record", type=click.Path(exists=True, dir_okay=False))
@click.option("--count", default=5, show_default=True, help="How many entries to print.")
def widest_ranges(record, count):
    """Print the entries of RECORD with the largest activation scales."""
    scales = [(entry.scale_d, key) for key, entry in Record.read(record).items() if entry.scale_d is not None]
    for scale, key in sorted(scales, reverse=True)[:count]:
        click.echo(f"{scale:.6g}  {key}")
