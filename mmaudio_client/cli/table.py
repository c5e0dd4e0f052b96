"""Rows of a list: aligned columns on a terminal, tab-separated whole lines in a pipe or a file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import chain, islice

import click
from rich.cells import cell_len, set_cell_size

from mmaudio_client.cli.job_view import one_line

GAP = "  "
ALIGNED_TOGETHER = 100
"""Rows that are read before the first is shown, to know the widths of the columns."""


def print_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows. Only the last column is ever shortened, to the width of a terminal; a pipe gets all of it."""
    lines = ([one_line(str(cell)) for cell in row] for row in rows)
    if not sys.stdout.isatty():
        for line in lines:
            click.echo("\t".join(line))
        return
    first = list(islice(lines, ALIGNED_TOGETHER))
    widths = [max(map(cell_len, column)) for column in zip(header, *first, strict=True)][:-1]
    columns_left = shutil.get_terminal_size().columns - sum(widths) - len(GAP) * len(widths)
    for line in chain([[*header]], first, lines):
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=False)]
        click.echo(GAP.join([*padded, _shortened(line[-1], columns_left)]).rstrip())


def _shortened(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…" if width > 1 else ""
