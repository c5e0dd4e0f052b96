"""`--output`: the local folder for results, checked before anything is sent."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default="current folder",
    metavar="FOLDER",
    help="Folder to save results in; created if it does not exist.",
)


def prepare_folder(folder: Path) -> None:
    """Create the folder where absent, and check that files can be written to it.

    Raises:
        click.BadParameter: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise click.BadParameter(f"Cannot write to {folder}: {exc.strerror}.", param_hint="'--output'") from exc
