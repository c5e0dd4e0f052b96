"""`mmaudio train prepare | finetune | merge-lora`: training clips from videos, and a variant fine-tuned on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmaudio_model.checkpoints.folder import check_folder_for
from mmaudio_model.checkpoints.origin import describe_origins, part_files
from mmaudio_model.cli import options as shared
from mmaudio_model.cli.command import CommandError, LocalCommand, print_json
from mmaudio_model.cli.progress import ProgressBars
from mmaudio_model.errors import ModelError
from mmaudio_model.lengths import sequence_lengths
from mmaudio_model.variants import Variant, get_variant

if TYPE_CHECKING:
    from mmaudio_model.training.finetune import FineTuning

SHOWN = 20
FULL_RATE, LORA_RATE = 1e-5, 1e-4

_variant = shared.variant(required=True, description="Model variant to train; its licence applies to the result.")


@click.command("prepare", cls=LocalCommand)
@_variant
@click.option(
    "--videos",
    type=shared.INPUT_FOLDER,
    required=True,
    help="Folder of videos with sound, and captions: see docs/training.md.",
)
@click.option("--clips", type=shared.FOLDER, required=True, help="Folder for the clips; an interrupted run is resumed.")
@click.option("--duration", type=shared.SECONDS, default=8.0, show_default=True, help="Seconds per clip.")
@click.option(
    "--processes", type=click.IntRange(min=1), default=2, show_default=True, help="Processes that read the videos."
)
@shared.as_json
def prepare(name: str, videos: Path, clips: Path, duration: float, processes: int, as_json: bool) -> None:
    """Cut a folder of videos into training clips."""
    variant = get_variant(name)
    sequence_lengths(variant, duration)  # raises for an invalid duration, before anything is read
    from mmaudio_model.local_run import check_writable
    from mmaudio_model.media.probe import MediaLimits
    from mmaudio_model.training.data.clip import ClipShape
    from mmaudio_model.training.data.folder_clips import SCAN_RESULT, FolderClips, scan_folder, scan_once
    from mmaudio_model.training.data.prepare import prepare as fill_shards

    check_writable(clips)
    shape, limits = ClipShape.of(variant, duration), MediaLimits()
    with ProgressBars(quiet=as_json) as bars:
        search = partial(
            scan_folder, videos, shape, limits=limits, processes=processes, on_video=partial(bars.update, "videos")
        )
        found = scan_once(clips, search)
        make = FolderClips.of(videos, shape, found, limits)
        fill_shards(clips, found.names, make, shape, processes=processes, on_shard=partial(bars.update, "clips"))
    if as_json:
        print_json(
            {
                "clips": str(clips),
                "count": len(found.sections),
                "duration_s": duration,
                "skipped": [
                    {"file": each.file, "start_s": each.start_s, "reason": each.reason} for each in found.skipped
                ],
                "without_captions": found.without_captions,
            }
        )
        return
    for each in found.skipped[:SHOWN]:
        click.echo(f"skipped: {each.file} from {each.start_s:g} s: {each.reason}", err=True)
    if len(found.skipped) > SHOWN:
        click.echo(f"skipped: {len(found.skipped) - SHOWN} more; all are in {clips / SCAN_RESULT}", err=True)
    if found.without_captions:
        click.echo(f"Warning: {found.without_captions} clips have no caption; it counts as the empty text.", err=True)
    click.echo(f"{clips}: {len(found.sections)} clips of {duration:g} s")


@click.command("finetune", cls=LocalCommand, extra="train", short_help="Train a variant on prepared clips.")
@_variant
@click.option(
    "--clips",
    type=shared.INPUT_FOLDER,
    required=True,
    help="Folder that `mmaudio train prepare` filled for this variant.",
)
@click.option(
    "--run", "folder", type=shared.FOLDER, required=True, help="Folder of the run; an interrupted run is resumed."
)
@shared.weights_dir
@click.option("--lora", "rank", type=click.IntRange(min=1), help="Train a LoRA adapter of this rank instead.")
@click.option("--steps", type=click.IntRange(min=1), default=2000, show_default=True, help="Training steps.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Clips per step and process."
)
@click.option(
    "--learning-rate",
    type=shared.FiniteFloatRange(min=0, min_open=True),
    help=f"Learning rate after the warm-up. Default: {FULL_RATE:g}, with --lora {LORA_RATE:g}.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Steps in which the learning rate rises.",
)
@click.option(
    "--ema",
    type=shared.FiniteFloatRange(0, 1, max_open=True),
    default=0.999,
    show_default=True,
    help="Decay per step of the exponential moving average of the weights, which is the result.",
)
@click.option(
    "--keep-every",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Keep a checkpoint each time after this many steps; 0 keeps only the last.",
)
@click.option("--resume-from", type=shared.INPUT_FILE, help="Checkpoint to resume from, instead of the last one.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="Number format of the arithmetic. Default: bf16 on CUDA, fp32 elsewhere.",
)
@shared.device
@click.option(
    "--processes-per-node",
    "processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes on this machine; on CUDA each uses its own GPU.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the run.")
@shared.as_json
def finetune(
    name: str, folder: Path, clips: Path, weights_dir: Path | None, rank: int | None, as_json: bool, **options: Any
) -> None:
    """Train a variant's flow network on prepared clips, from its checkpoint.

    Several GPUs: --processes-per-node, or `torchrun --no-python mmaudio train finetune ...`. Writes RUN/weights, a
    folder for --weights, or with --lora RUN/adapter, which `mmaudio train merge-lora` takes. Prints its path.
    """
    variant = _checked(name, weights_dir, quiet=as_json)
    from mmaudio_model.devices import choose_device
    from mmaudio_model.local_run import check_writable
    from mmaudio_model.training.finetune import FineTuning
    from mmaudio_model.training.options import TrainOptions
    from mmaudio_model.training.processes import ProcessFailedError, run_in_processes

    device = choose_device(options["device"])
    check_writable(folder)
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
    if not variant.bundled and not as_json:
        click.echo(f"Note: the licence of the checkpoint, {variant.licence}, applies to the result.", err=True)
    try:
        run_in_processes(partial(run_plan, plan, options["resume_from"], quiet=as_json), options["processes"], device)
    except (ProcessFailedError, ValueError) as exc:
        raise CommandError(_reason(exc), code="training_failed") from exc
    _print_result(plan.result, "weights" if rank is None else "adapter", as_json=as_json)


def run_plan(plan: FineTuning, resume_from: Path | None, device: str, *, quiet: bool = False) -> None:
    """Run a fine-tuning in one of the processes."""
    from mmaudio_model.training.finetune import fine_tune
    from mmaudio_model.training.processes import is_main_process

    with ProgressBars(quiet=quiet or not is_main_process()) as bars:
        fine_tune(plan, device=device, on_progress=bars.update, resume_from=resume_from)


@click.command("merge-lora", cls=LocalCommand, extra="train", short_help="Merge a LoRA adapter into the weights.")
@_variant
@click.option(
    "--adapter",
    type=shared.INPUT_FOLDER,
    required=True,
    help="Folder of the adapter: RUN/adapter of `mmaudio train finetune --lora`.",
)
@shared.weights_dir
@click.option("--output", type=shared.FOLDER, required=True, help="Weights folder to write, for --weights.")
@shared.as_json
def merge_lora(name: str, adapter: Path, weights_dir: Path | None, output: Path, as_json: bool) -> None:
    """Add the changes of a LoRA adapter to the weights that it was trained from."""
    variant = _checked(name, weights_dir, quiet=as_json)
    from mmaudio_model.local_run import check_writable
    from mmaudio_model.training.finetune import merge

    check_writable(output)
    merge(variant, adapter, weights_dir, output)
    _print_result(output, "weights", as_json=as_json)


def _checked(name: str, weights_dir: Path | None, *, quiet: bool) -> Variant:
    """Return the variant; check that the folder holds a part of it, and print where the parts are loaded from."""
    variant = get_variant(name)
    check_folder_for(variant, weights_dir)
    origins = part_files(variant, weights_dir)
    if weights_dir is not None and not quiet:
        click.echo(f"Weights: {describe_origins(origins, weights_dir)}.", err=True)
    return variant


def _reason(error: Exception) -> str:
    """Return the sentence of an error; of a process that failed by one of ours, the last line of its traceback."""
    kind, _, sentence = str(error).rstrip().rpartition("\n")[2].partition(": ")
    return sentence if kind.startswith(ModelError.__module__) else str(error)


def _print_result(path: Path, kind: str, *, as_json: bool) -> None:
    if as_json:
        print_json({kind: str(path)})
    else:
        click.echo(str(path))
