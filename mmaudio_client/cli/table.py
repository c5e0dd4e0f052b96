"""Rows of a list: aligned columns on a terminal, tab-separated whole lines in a pipe or a file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import chain, islice

import click

from mmaudio_client.cli.text_width import one_line, shortened, width_of

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
    widths = [max(map(width_of, column)) for column in zip(header, *first, strict=True)][:-1]
    columns_left = shutil.get_terminal_size().columns - sum(widths) - len(GAP) * len(widths)
    for line in chain([[*header]], first, lines):
        padded = [cell + " " * (width - width_of(cell)) for cell, width in zip(line, widths, strict=False)]
        click.echo(GAP.join([*padded, shortened(line[-1], columns_left)]).rstrip())
