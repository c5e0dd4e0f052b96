"""`mmaudio weights`: which models are there, under which licence, and how to get them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from mmaudio_model.checkpoints.download import fetch_file
from mmaudio_model.checkpoints.files import PublishedFile, find_file, needed_files
from mmaudio_model.checkpoints.verify import FileState, verify_file
from mmaudio_model.errors import ModelError
from mmaudio_model.variants import VARIANTS, Variant

PIPE_WIDTH = 200
PUBLISHED = [name for name, variant in VARIANTS.items() if not variant.bundled]

_weights_dir = click.option(
    "--weights",
    "weights_dir",
    envvar="MMAUDIO_WEIGHTS_DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder laid out like the published one; default: the Hugging Face cache.",
)


@click.group()
def weights() -> None:
    """Show, fetch and check the models' weights."""


@weights.command("list")
@_weights_dir
@click.option("--files", "with_files", is_flag=True, help="Each file, its size, its licence and where it lies.")
def list_(weights_dir: Path | None, with_files: bool) -> None:
    """List the variants, their size, their licence, and what is missing of them."""
    table = Table("variant", "size", "licence", "state", box=None, pad_edge=False)
    for name, variant in VARIANTS.items():
        files = needed_files(variant)
        size_bytes = sum(file.size_bytes for file in files)
        table.add_row(name, _size(size_bytes) if files else "", variant.licence, _state(variant, weights_dir))
    _show(table)
    if with_files:
        click.echo()
        _show(_file_table(weights_dir))


@weights.command()
@click.argument("names", metavar="VARIANT...", nargs=-1, required=True, type=click.Choice(PUBLISHED))
@_weights_dir
def fetch(names: tuple[str, ...], weights_dir: Path | None) -> None:
    """Fetch the files of variants, and check them; what is there and right is not fetched again."""
    try:
        for file in _files(names):
            path = find_file(file, None) if weights_dir is None else weights_dir / file.path
            state = verify_file(file, path)
            if state is FileState.OK:
                click.echo(f"{file.path}: there")
                continue
            again = ", because what is there is not the published one" if state is FileState.DIFFERS else ""
            click.echo(
                f"{file.path}: fetching {_size(file.size_bytes)} from {file.repository}{again}; "
                f"its licence is {file.licence}"
            )
            click.echo(f"{file.path}: {_fetch(file, weights_dir)}")
    except ModelError as exc:
        raise click.ClickException(str(exc)) from exc


@weights.command()
@click.argument("names", metavar="[VARIANT...]", nargs=-1, type=click.Choice(PUBLISHED))
@_weights_dir
def verify(names: tuple[str, ...], weights_dir: Path | None) -> None:
    """Compare files with their published checksums; without a variant, all that are there.

    Exits with 1 if a file differs, or one of a named variant is missing.
    """
    bad = False
    for file in _files(names or PUBLISHED):
        path = find_file(file, weights_dir)
        if path is None and not names:
            continue
        state = verify_file(file, path)
        bad = bad or state is not FileState.OK
        click.echo(f"{file.path}: {state}" + (f" ({path})" if path is not None else ""))
    if bad:
        raise click.exceptions.Exit(1)


def _fetch(file: PublishedFile, weights_dir: Path | None) -> Path:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=file.size_bytes)
        return fetch_file(file, weights_dir, on_bytes=lambda count: bar.update(task, completed=count))


def _files(names: Iterable[str]) -> list[PublishedFile]:
    """Return the files of variants, each once."""
    return list(dict.fromkeys(file for name in names for file in needed_files(VARIANTS[name])))


def _state(variant: Variant, weights_dir: Path | None) -> str:
    if variant.bundled:
        return variant.note or "built in"
    missing = [file for file in needed_files(variant) if find_file(file, weights_dir) is None]
    if not missing:
        return "installed"
    count = "1 file" if len(missing) == 1 else f"{len(missing)} files"
    return f"{count} missing, {_size(sum(file.size_bytes for file in missing))}"


def _file_table(weights_dir: Path | None) -> Table:
    table = Table("file", "size", "licence", "of", "where", box=None, pad_edge=False)
    for file in _files(PUBLISHED):
        variants = [name for name in PUBLISHED if file in needed_files(VARIANTS[name])]
        of = variants[0] if len(variants) == 1 else f"{len(variants)} variants"
        table.add_row(file.path, _size(file.size_bytes), file.licence, of, _where(file, weights_dir))
    return table


def _where(file: PublishedFile, weights_dir: Path | None) -> str:
    path = find_file(file, weights_dir)
    if path is None:
        return "missing"
    return "folder" if weights_dir is not None and path.is_relative_to(weights_dir) else "hub cache"


def _show(table: Table) -> None:
    for column in table.columns[:-1]:
        column.no_wrap = True
    # Behind a pipe there is no width, and what reads it wants whole lines.
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
