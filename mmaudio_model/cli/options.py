"""Options that several commands share, so that each is described and checked in the same way. No torch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mmaudio_model.variants import VARIANTS

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


class NonEmptyPath(click.Path):
    """A path; the empty text, which `Path` reads as the current folder, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("it is empty; give a path.", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = NonEmptyPath(file_okay=False, path_type=Path)
FILE = NonEmptyPath(dir_okay=False, path_type=Path)
INPUT_FILE = NonEmptyPath(exists=True, dir_okay=False, path_type=Path)
INPUT_FOLDER = NonEmptyPath(exists=True, file_okay=False, path_type=Path)


class FiniteFloatRange(click.FloatRange):
    """A range of numbers; `nan`, which no comparison excludes, and `inf` are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


SECONDS = FiniteFloatRange(min=0, min_open=True)


def _expand(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    # The shell does not expand `--weights=~/weights`, nor a `~` in the environment.
    return value.expanduser() if value is not None else None


def weights_option(description: str) -> Callable[[Decorated], Decorated]:
    """Return the option for the weights folder; `checkpoints.folder` checks it, since its errors have hints."""
    return click.option(
        "--weights",
        "weights_dir",
        metavar="FOLDER",
        envvar="MMAUDIO_WEIGHTS_DIR",
        show_envvar=True,
        type=NonEmptyPath(path_type=Path),
        callback=_expand,
        help=description,
    )


weights_dir = weights_option(
    "Weights folder, laid out as published or as `mmaudio train` writes it; it must hold at least one part of the "
    "variant. Default: the Hugging Face cache, and the package for bundled variants."
)
device = click.option(
    "--device",
    metavar="DEVICE",
    help="Device that runs the model: cpu, cuda, cuda:N or mps. Default: cuda if it is available, else cpu.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Number format of the weights and the arithmetic. Default: bf16 on CUDA, fp32 elsewhere.",
)
num_steps = click.option(
    "--num-steps",
    type=click.IntRange(1, 100),
    default=25,
    show_default=True,
    help="Sampling steps; more take longer and follow the flow more exactly.",
)
cfg_strength = click.option(
    "--cfg-strength",
    type=FiniteFloatRange(0, 20),
    default=4.5,
    show_default=True,
    help="Strength of classifier-free guidance; higher follows the prompt more closely.",
)
as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON in one line, and errors as well."
)


def variant(
    *, default: str | None = None, required: bool = False, description: str = "Model variant."
) -> Callable[[Decorated], Decorated]:
    """Return the option that selects a variant; its parameter is called `name`."""
    return click.option(
        "--variant",
        "name",
        type=click.Choice(list(VARIANTS)),
        default=default,
        show_default=default is not None,
        required=required,
        help=description,
    )
