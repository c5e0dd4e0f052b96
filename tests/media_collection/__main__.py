"""`make FOLDER` writes the files; `table` writes what becomes of them into `docs/media.md`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tests.media_collection.kinds import KINDS
from tests.media_collection.outcome import Outcome, outcome_of
from tests.media_collection.table import DOCUMENT, document_with, tables


@click.group()
def main() -> None:
    """Make the collection, or the table of what becomes of it."""


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def make(folder: Path) -> None:
    """Write every kind of file into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        kind.make(folder / kind.name)
        click.echo(folder / kind.name)


@main.command()
def table() -> None:
    """Run every kind through reading and muxing, and write the tables into docs/media.md."""
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            path = Path(folder) / kind.name
            kind.make(path)
            outcomes[kind.name] = outcome_of(kind, path, Path(folder) / "out")
            path.unlink()
    DOCUMENT.write_text(document_with(DOCUMENT.read_text(), tables(outcomes)))
    click.echo(f"{len(outcomes)} kinds: {DOCUMENT}")


if __name__ == "__main__":
    main()
