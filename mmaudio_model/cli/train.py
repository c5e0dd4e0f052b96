"""`mmaudio train`: prepare training clips, fine-tune a variant, train a bundled variant from random weights."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import click

from mmaudio_model.cli import options as shared
from mmaudio_model.cli.command import LocalCommand, LocalGroup, print_json
from mmaudio_model.cli.finetune import finetune, merge_lora, prepare
from mmaudio_model.cli.progress import ProgressBars
from mmaudio_model.variants import VARIANTS, get_variant

BUNDLED = [name for name, variant in VARIANTS.items() if variant.bundled]
PARTS = ("vae", "sync", "clip", "vocoder", "flow")


@click.group(cls=LocalGroup)
def train() -> None:
    """Train or fine-tune a variant."""
    # The progress bars show the same.
    logging.getLogger("mmaudio_model").setLevel(logging.WARNING)


@train.command("world", cls=LocalCommand, short_help="Train a bundled variant from random weights.")
@click.option(
    "--run", "folder", type=shared.FOLDER, required=True, help="Folder of the run; an interrupted run is resumed."
)
@click.option(
    "--variant",
    "name",
    type=click.Choice(BUNDLED),
    default=BUNDLED[0],
    show_default=True,
    help="Bundled variant to train.",
)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Train this part only; may be repeated.")
@click.option("--clips", type=click.IntRange(min=2), help="Number of scenes. Default: the recipe's.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps of each part. Default: the recipe's.")
@click.option(
    "--processes", type=click.IntRange(min=1), default=2, show_default=True, help="Processes that render scenes."
)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads of torch.")
@click.option("--smoke", is_flag=True, help="Run for minutes only, to check that each part learns.")
@shared.as_json
def world(
    folder: Path,
    name: str,
    parts: tuple[str, ...],
    clips: int | None,
    steps: int | None,
    processes: int,
    threads: int,
    smoke: bool,
    as_json: bool,
) -> None:
    """Train a bundled variant from random weights on the procedural world.

    Writes RUN/weights, a folder for --weights, and prints its path.
    """
    import torch

    from mmaudio_model.local_run import check_writable
    from mmaudio_model.training.recipe import SMOKE, TINY, RecipeRun

    check_writable(folder)
    torch.set_num_threads(threads)
    recipe = SMOKE if smoke else TINY
    if clips is not None:
        recipe = replace(recipe, clips=clips, flow_clips=clips)
    if steps is not None:
        shorter = {part: replace(chosen, steps=steps) for part, chosen in recipe.options.items()}
        recipe = replace(recipe, options=shorter)
    with ProgressBars(quiet=as_json) as bars:
        run = RecipeRun(get_variant(name), recipe, folder, processes=processes, on_progress=bars.update)
        run.run(parts or PARTS)
    if as_json:
        print_json({"weights": str(run.weights)})
    else:
        click.echo(str(run.weights))


train.add_command(prepare)
train.add_command(finetune)
train.add_command(merge_lora)
