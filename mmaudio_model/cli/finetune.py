"""`mmaudio train prepare | finetune | merge-lora`: one's own videos, and a variant that learns from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmaudio_model.cli.bars import Bars
from mmaudio_model.errors import ModelError
from mmaudio_model.variants import VARIANTS, get_variant

if TYPE_CHECKING:
    from mmaudio_model.training.finetune import FineTuning

SHOWN = 20
FULL_RATE, LORA_RATE = 1e-5, 1e-4
FOLDER = click.Path(file_okay=False, path_type=Path)

_variant = click.option("--variant", "name", type=click.Choice(list(VARIANTS)), required=True)
_weights = click.option(
    "--weights",
    "weights_dir",
    envvar="MMAUDIO_WEIGHTS_DIR",
    type=FOLDER,
    help="Where the checkpoints lie; default: the Hugging Face cache.",
)


def _errors_as_sentences(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except (ModelError, OSError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


@click.command("prepare")
@_variant
@click.option("--videos", type=FOLDER, required=True, help="Videos with sound, and captions: see docs/training.md.")
@click.option("--clips", type=FOLDER, required=True, help="Where the clips come to lie; it goes on with what is there.")
@click.option("--duration", type=float, default=8.0, show_default=True, help="Of a clip, in seconds.")
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True)
def prepare(name: str, videos: Path, clips: Path, duration: float, processes: int) -> None:
    """Cut a folder of videos into training clips."""
    _errors_as_sentences(partial(_prepare, name, videos, clips, duration, processes))


def _prepare(name: str, videos: Path, clips: Path, duration_s: float, processes: int) -> None:
    from mmaudio_model.lengths import sequence_lengths
    from mmaudio_model.media.probe import MediaLimits
    from mmaudio_model.training.data.clip import ClipShape
    from mmaudio_model.training.data.folder_clips import SCAN_RESULT, FolderClips, scan_folder, scan_once
    from mmaudio_model.training.data.prepare import prepare as fill_shards

    variant, limits = get_variant(name), MediaLimits()
    sequence_lengths(variant, duration_s)  # a duration that the variant cannot have is said before anything is read
    shape = ClipShape.of(variant, duration_s)
    with Bars() as bars:
        search = partial(
            scan_folder, videos, shape, limits=limits, processes=processes, on_video=partial(bars.tell, "look")
        )
        found = scan_once(clips, search)
        make = FolderClips.of(videos, shape, found, limits)
        fill_shards(clips, found.names, make, shape, processes=processes, on_shard=partial(bars.tell, "clips"))
    for each in found.skipped[:SHOWN]:
        click.echo(f"skipped: {each.file} from {each.start_s:g} s: {each.reason}", err=True)
    if len(found.skipped) > SHOWN:
        click.echo(f"skipped: {len(found.skipped) - SHOWN} more; all are in {clips / SCAN_RESULT}", err=True)
    if found.without_captions:
        click.echo(f"Note: {found.without_captions} clips have no caption; they count as the empty text.", err=True)
    click.echo(f"{clips}: {len(found.sections)} clips of {duration_s:g} s")


@click.command("finetune")
@_variant
@click.option("--clips", type=FOLDER, required=True, help="Made by `mmaudio train prepare` for this variant.")
@click.option("--run", "folder", type=FOLDER, required=True, help="The run's folder; it is gone on from.")
@_weights
@click.option("--lora", "rank", type=click.IntRange(min=1), help="Train an adapter of this rank instead of everything.")
@click.option("--steps", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Of each process.")
@click.option("--learning-rate", type=float, help=f"Default: {FULL_RATE:g}, or {LORA_RATE:g} for an adapter.")
@click.option("--warmup", type=click.IntRange(min=0), default=100, show_default=True, help="Steps.")
@click.option("--ema", type=click.FloatRange(0, 1, max_open=True), default=0.999, show_default=True)
@click.option("--keep-every", type=click.IntRange(min=0), default=0, help="Steps between checkpoints that are kept.")
@click.option("--resume-from", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="A kept checkpoint.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Default: bf16 on CUDA, fp32 on a CPU.")
@click.option("--device", help="cpu, cuda or cuda:N; default: cuda where there is one.")
@click.option("--processes-per-node", "processes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def finetune(name: str, folder: Path, clips: Path, weights_dir: Path | None, rank: int | None, **options: Any) -> None:
    """Train a variant's flow network on prepared clips, from its checkpoint.

    One process a GPU: --processes-per-node, or `torchrun --no-python mmaudio train finetune ...`. The result is
    RUN/weights, which every command takes as --weights, or RUN/adapter.
    """
    result = _errors_as_sentences(partial(_finetune, name, folder, clips, weights_dir, rank, options))
    click.echo(result)


def _finetune(
    name: str, folder: Path, clips: Path, weights_dir: Path | None, rank: int | None, options: dict[str, Any]
) -> Path:
    from mmaudio_model.local_run import default_device
    from mmaudio_model.training.finetune import FineTuning
    from mmaudio_model.training.options import TrainOptions
    from mmaudio_model.training.processes import run_in_processes

    variant = get_variant(name)
    device = options["device"] or default_device()
    chosen = TrainOptions(
        steps=options["steps"],
        batch_size=options["batch_size"],
        learning_rate=options["learning_rate"] or (FULL_RATE if rank is None else LORA_RATE),
        warmup_steps=options["warmup"],
        ema_decay=options["ema"],
        precision=options["precision"] or ("bf16" if device.startswith("cuda") else "fp32"),
        keep_every=options["keep_every"],
        seed=options["seed"],
    )
    plan = FineTuning(variant, clips, folder, chosen, weights_dir, rank)
    if not variant.bundled:
        click.echo(f"Note: the checkpoint's licence is {variant.licence}; what is made of it has it too.", err=True)
    run_in_processes(partial(run_plan, plan, options["resume_from"]), options["processes"], device)
    return plan.result


def run_plan(plan: FineTuning, resume_from: Path | None, device: str) -> None:
    """Do what the plan says in one of the processes."""
    from mmaudio_model.training.finetune import fine_tune
    from mmaudio_model.training.processes import is_main_process

    with Bars(quiet=not is_main_process()) as bars:
        fine_tune(plan, device=device, on_progress=bars.tell, resume_from=resume_from)


@click.command("merge-lora")
@_variant
@click.option(
    "--adapter", type=FOLDER, required=True, help="RUN/adapter, as `mmaudio train finetune --lora` leaves it."
)
@_weights
@click.option("--output", type=FOLDER, required=True, help="What `--weights` then takes.")
def merge_lora(name: str, adapter: Path, weights_dir: Path | None, output: Path) -> None:
    """Add an adapter's changes to a variant's own weights."""

    def run() -> None:
        from mmaudio_model.training.finetune import merge

        merge(get_variant(name), adapter, weights_dir, output)

    _errors_as_sentences(run)
    click.echo(output)
