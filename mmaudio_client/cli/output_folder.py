"""`--output`: the local folder for results, checked before anything is sent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click


class _Folder(click.Path):
    """A folder, which need not exist."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("The name of the folder is empty.", param, ctx)
        if Path(value).exists() and not Path(value).is_dir():
            self.fail(f"'{value}' is a file, not a folder.", param, ctx)
        return super().convert(value, param, ctx)


output_option = click.option(
    "--output",
    type=_Folder(),
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
