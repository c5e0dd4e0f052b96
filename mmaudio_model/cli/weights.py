"""`mmaudio weights`: list the weights of the variants, fetch the published files and verify them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from mmaudio_model.checkpoints.download import fetch_file
from mmaudio_model.checkpoints.files import find_file
from mmaudio_model.checkpoints.folder import check_fetch_target, check_folder, check_folder_for
from mmaudio_model.checkpoints.layout import folder_paths
from mmaudio_model.checkpoints.published import PublishedFile, needed_files
from mmaudio_model.checkpoints.verify import (
    OWN_ALGORITHM,
    FileState,
    Finding,
    inspect_file,
    verify_file,
    verify_part,
)
from mmaudio_model.cli import options as shared
from mmaudio_model.cli.command import EXIT_FAILED, LocalCommand, LocalGroup, print_json
from mmaudio_model.cli.weights_state import VariantWeights, find_bundled, weights_of
from mmaudio_model.variants import VARIANTS

PIPE_WIDTH = 200
PUBLISHED = [name for name, variant in VARIANTS.items() if not variant.bundled]

_variants = click.Choice(PUBLISHED)
_weights_dir = shared.weights_option(
    "Weights folder, laid out as published or as `mmaudio train` writes it; files that are not in it are looked for in "
    "the Hugging Face cache. Default: the cache alone."
)
_target_dir = shared.weights_option(
    "Folder to fetch into; it is created if it does not exist. Default: the Hugging Face cache."
)


@click.group(cls=LocalGroup)
def weights() -> None:
    """List, fetch and verify the models' weights."""


@weights.command("list", cls=LocalCommand)
@_weights_dir
@click.option("--files", "with_files", is_flag=True, help="Also list each file with its size, licence and place.")
@shared.as_json
def list_(weights_dir: Path | None, with_files: bool, as_json: bool) -> None:
    """List the variants with size, licence and state.

    The state is `installed`, `bundled` (in the package), what is missing, or `broken` with the reason. Files are not
    compared with their checksums: `mmaudio weights verify` does that.
    """
    check_folder(weights_dir)
    rows = [weights_of(variant, weights_dir) for variant in VARIANTS.values()]
    if as_json:
        print_json({"variants": [_variant_document(row) for row in rows]})
        return
    table = Table("variant", "size", "licence", "state", box=None, pad_edge=False)
    for row in rows:
        size = _size(row.size_bytes) if row.size_bytes else ""
        table.add_row(row.variant.name, size, row.variant.licence, row.description)
    _print(table)
    if with_files:
        click.echo()
        _print(_file_table(weights_dir))


@weights.command(cls=LocalCommand)
@click.argument("names", metavar="VARIANT...", nargs=-1, required=True, type=_variants)
@_target_dir
@shared.as_json
def fetch(names: tuple[str, ...], weights_dir: Path | None, as_json: bool) -> None:
    """Fetch the files of each VARIANT, and verify them.

    Files that are installed and intact are not fetched again. With --weights the files go to that folder, which is
    created if it does not exist. Interrupted downloads are resumed.
    """
    check_fetch_target(weights_dir)
    documents = []
    for file in _files(names):
        path = find_file(file, None) if weights_dir is None else weights_dir / file.path
        found = verify_file(file, path)
        state = "present"
        if found.state is FileState.OK:
            click.echo(f"{file.path}: already installed", err=as_json)
        else:
            again = "" if found.state is FileState.MISSING else f", because {found.state.meaning}"
            size = _size(file.size_bytes)
            click.echo(
                f"{file.path}: fetching {size} from {file.repository}{again}; licence {file.licence}", err=as_json
            )
            path = _fetch(file, weights_dir)
            click.echo(f"{file.path}: {path}", err=as_json)
            state = "fetched"
        assert path is not None
        document = {"file": file.path, "path": str(path), "state": state, "size_bytes": path.stat().st_size}
        documents.append({**document, "licence": file.licence, "repository": file.repository})
    if as_json:
        print_json({"files": documents})


@weights.command(cls=LocalCommand, short_help="Check the files of variants.")
@click.argument("names", metavar="[VARIANT...]", nargs=-1, type=click.Choice(list(VARIANTS)))
@_weights_dir
@shared.as_json
def verify(names: tuple[str, ...], weights_dir: Path | None, as_json: bool) -> None:
    """Compare the files of each VARIANT with their published checksums; without VARIANT, all that are installed.

    For parts of bundled variants no checksum is published: each must be readable, and a complete safetensors file.
    Without VARIANT, only those in the weights folder are checked.

    Prints for each file its state (ok, mismatch, pointer, empty, dangling, unreadable, damaged or missing), size and
    path. Exits with 1 if a file is not ok, a file of a named variant is missing, or there is no file to verify.
    """
    check_folder(weights_dir)
    for name in names:
        check_folder_for(VARIANTS[name], weights_dir)
    findings: list[tuple[PublishedFile | str, Finding]] = []
    for file, path in _places(names, weights_dir):
        found = verify_part(path) if isinstance(file, str) else verify_file(file, path)
        findings.append((file, found))
        if not as_json:
            click.echo(_finding_line(file, found))
    if as_json:
        print_json({"files": [_finding_document(file, found) for file, found in findings]})
    elif not findings:
        places = f"{weights_dir} and the Hugging Face cache" if weights_dir is not None else "the Hugging Face cache"
        click.echo(f"There is no published file in {places}. Fetch a variant: mmaudio weights fetch VARIANT", err=True)
    if not findings or any(found.state is not FileState.OK for _, found in findings):
        raise click.exceptions.Exit(EXIT_FAILED)


def _fetch(file: PublishedFile, weights_dir: Path | None) -> Path:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=file.size_bytes)
        return fetch_file(file, weights_dir, on_bytes=lambda count: bar.update(task, completed=count))


def _files(names: Iterable[str]) -> list[PublishedFile]:
    """Return the files of variants, each once."""
    return list(dict.fromkeys(file for name in names for file in needed_files(VARIANTS[name])))


def _places(names: Iterable[str], weights_dir: Path | None) -> Iterator[tuple[PublishedFile | str, Path | None]]:
    """Give the files to verify, each once, and where they are; a part of a bundled variant by its path in a folder."""
    chosen = list(dict.fromkeys(names))
    for name in chosen or VARIANTS:
        if not VARIANTS[name].bundled:
            continue
        for part in folder_paths(VARIANTS[name]):
            path = find_bundled(part, weights_dir)
            if chosen or (weights_dir is not None and path.is_relative_to(weights_dir)):
                yield part, path
    for file in _files(chosen or PUBLISHED):
        path_or_none = find_file(file, weights_dir)
        if chosen or path_or_none is not None:
            yield file, path_or_none


def _variant_document(row: VariantWeights) -> dict[str, Any]:
    return {
        "variant": row.variant.name,
        "state": row.state,
        "description": row.description,
        "size_bytes": row.size_bytes,
        "licence": row.variant.licence,
        "files": [
            {"file": name, "path": str(found.path) if found.path is not None else None, "state": found.state}
            for name, found in row.files.items()
        ],
    }


def _finding_line(file: PublishedFile | str, found: Finding) -> str:
    line = f"{file if isinstance(file, str) else file.path}: {found.state}"
    if found.size_bytes is not None:
        line += f", {found.size_bytes:,} bytes"
    if isinstance(file, str) and found.state is FileState.OK:
        line += ", complete and readable (no checksum is published)"
    elif not isinstance(file, str) and found.state is FileState.MISMATCH:
        algorithm, published = file.checksum
        line += f" (published: {file.size_bytes:,}), {algorithm} {found.digest} (published: {published})"
    elif not isinstance(file, str) and found.state is FileState.OK:
        line += f", {file.checksum[0]} matches"
    elif found.state is not FileState.MISSING:
        line += f", {found.state.meaning}"
    return line if found.path is None else f"{line}: {found.path}"


def _finding_document(file: PublishedFile | str, found: Finding) -> dict[str, Any]:
    path, size_bytes, algorithm, published = (
        (file, None, OWN_ALGORITHM, None) if isinstance(file, str) else (file.path, file.size_bytes, *file.checksum)
    )
    return {
        "file": path,
        "path": str(found.path) if found.path is not None else None,
        "state": found.state,
        "size_bytes": found.size_bytes,
        "published_size_bytes": size_bytes,
        "algorithm": algorithm,
        "digest": found.digest,
        "published_digest": published,
    }


def _file_table(weights_dir: Path | None) -> Table:
    table = Table("file", "size", "licence", "used by", "place", box=None, pad_edge=False)
    for file in _files(PUBLISHED):
        variants = [name for name in PUBLISHED if file in needed_files(VARIANTS[name])]
        used_by = variants[0] if len(variants) == 1 else f"{len(variants)} variants"
        table.add_row(file.path, _size(file.size_bytes), file.licence, used_by, _place(file, weights_dir))
    return table


def _place(file: PublishedFile, weights_dir: Path | None) -> str:
    found = inspect_file(find_file(file, weights_dir))
    if found.path is None:
        return "missing"
    in_folder = weights_dir is not None and found.path.is_relative_to(weights_dir)
    place = "weights folder" if in_folder else "Hugging Face cache"
    return f"{place}, broken: {found.state.meaning}" if found.state.is_broken else place


def _print(table: Table) -> None:
    for column in table.columns[:-1]:
        column.no_wrap = True
    # A pipe has no width, and its reader needs whole lines.
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
