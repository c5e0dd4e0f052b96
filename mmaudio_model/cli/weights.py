"""`mmaudio weights`: which models are there, and under which licence."""

from __future__ import annotations

from pathlib import Path

import click

from mmaudio_model.checkpoints.files import find_file, needed_files
from mmaudio_model.variants import VARIANTS


@click.group()
def weights() -> None:
    """Show which models are installed."""


@weights.command("list")
@click.option("--weights", "weights_dir", envvar="MMAUDIO_WEIGHTS_DIR", type=click.Path(path_type=Path))
def list_(weights_dir: Path | None) -> None:
    """List the variants, their licence, and what is missing of them."""
    for name, variant in VARIANTS.items():
        files = needed_files(variant)
        missing = [file.path for file in files if find_file(file, weights_dir) is None]
        if not files:
            state = variant.note if variant.note else "built in"
        else:
            state = "installed" if not missing else f"missing: {', '.join(missing)}"
        click.echo(f"{name:<14} {variant.licence:<14} {state}")
