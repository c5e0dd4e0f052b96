"""`mmaudio train`: make training clips, train a variant of our own from nothing, part by part or all at once."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mmaudio_model.cli.bars import Bars
from mmaudio_model.cli.finetune import finetune, merge_lora, prepare
from mmaudio_model.errors import ModelError
from mmaudio_model.variants import VARIANTS, get_variant

BUNDLED = [name for name, variant in VARIANTS.items() if variant.bundled]
PARTS = ("vae", "sync", "clip", "vocoder", "flow")

_run = click.option(
    "--run",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The run's folder; what is done there is not done again.",
)


@click.group()
def train() -> None:
    """Train the model."""
    logging.getLogger("mmaudio_model").setLevel(logging.WARNING)


@train.command("world")
@_run
@click.option("--variant", "name", type=click.Choice(BUNDLED), default=BUNDLED[0], show_default=True)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Train this part only; may be repeated.")
@click.option("--clips", type=click.IntRange(min=2), help="How many scenes, instead of the recipe's number.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of each part, instead of the recipe's number.")
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True, help="To render with.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="Of torch, on a CPU.")
@click.option("--smoke", is_flag=True, help="A run of minutes that shows that each part learns.")
def world(name: str, parts: tuple[str, ...], clips: int | None, steps: int | None, **options: Any) -> None:
    """Train a small variant from nothing on the procedural world.

    The weights come to lie in RUN/weights, which every command takes as --weights.
    """
    import torch

    from mmaudio_model.training.recipe import SMOKE, TINY, RecipeRun

    torch.set_num_threads(options["threads"])
    recipe = SMOKE if options["smoke"] else TINY
    if clips is not None:
        recipe = replace(recipe, clips=clips, flow_clips=clips)
    if steps is not None:
        shorter = {part: replace(chosen, steps=steps) for part, chosen in recipe.options.items()}
        recipe = replace(recipe, options=shorter)
    with Bars() as bars:
        try:
            run = RecipeRun(
                get_variant(name), recipe, options["folder"], processes=options["processes"], on_progress=bars.tell
            )
            run.run(parts or PARTS)
        except (ModelError, OSError) as exc:
            raise click.ClickException(str(exc)) from exc
    click.echo(run.weights / name)


train.add_command(prepare)
train.add_command(finetune)
train.add_command(merge_lora)
