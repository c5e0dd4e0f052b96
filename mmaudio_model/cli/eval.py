"""`mmaudio eval`: objective measures of generated sounds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from mmaudio_model.checkpoints.folder import check_folder_for
from mmaudio_model.checkpoints.origin import describe_origins, part_files
from mmaudio_model.cli import options as shared
from mmaudio_model.cli.command import CommandError, LocalCommand, LocalGroup, print_json
from mmaudio_model.lengths import sequence_lengths
from mmaudio_model.variants import get_variant

if TYPE_CHECKING:
    from rich.table import Table

WORLD_PARTS = ("video", "shuffled", "text", "negative", "speed")
PROGRESS_INTERVAL_S = 10.0
HELD_OUT_SOUNDS = 260
PIPE_WIDTH = 200
SHOWN_NAMES = 5

_report_file = click.option("--output", type=shared.FILE, help="Also write the complete report to this JSON file.")


@click.group("eval", cls=LocalGroup)
def eval_() -> None:
    """Evaluate sounds: onsets, classes, distances."""


@eval_.command(cls=LocalCommand, short_help="Evaluate a variant on held-out scenes.")
@shared.variant(default="tiny_16k", description="Model variant to evaluate.")
@click.option("--scenes", type=click.IntRange(min=4), default=200, show_default=True, help="Number of held-out scenes.")
@click.option("--duration", type=shared.SECONDS, default=8.0, show_default=True, help="Seconds per scene.")
@click.option(
    "--parts", default=",".join(WORLD_PARTS), show_default=True, help="Parts of the evaluation, separated by commas."
)
@shared.num_steps
@shared.cfg_strength
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=4, show_default=True, help="Scenes generated at once."
)
@shared.weights_dir
@shared.device
@shared.precision
@_report_file
@shared.as_json
def world(
    name: str,
    scenes: int,
    duration: float,
    parts: str,
    weights_dir: Path | None,
    device: str | None,
    precision: str | None,
    output: Path | None,
    as_json: bool,
    **generation_options: Any,
) -> None:
    """Evaluate a variant on held-out scenes of the procedural world.

    \b
    Parts:
      video     generated from the video alone
      shuffled  sounds of other scenes of the same class, against this scene's events
      text      generated from the caption alone
      negative  from the video, with its caption as negative prompt
      speed     time to generate one scene alone
    """
    selected = [part.strip() for part in parts.split(",") if part.strip()]
    unknown = sorted(set(selected) - set(WORLD_PARTS))
    if unknown or not selected:
        raise click.UsageError(f"Got --parts {parts!r}; allowed are {', '.join(WORLD_PARTS)}.")
    variant = get_variant(name)
    sequence_lengths(variant, duration)
    check_folder_for(variant, weights_dir)
    origins = part_files(variant, weights_dir)
    # Imported here, so that `--help` and a wrong option need no torch.
    from mmaudio_model.devices import choose_device, default_precision
    from mmaudio_model.evaluation.classifier import load_classifier
    from mmaudio_model.evaluation.scenes import held_out_scenes
    from mmaudio_model.evaluation.table import negative_line, parts_table, speed_line
    from mmaudio_model.evaluation.world import GenerationOptions, SceneMetrics, evaluate_world
    from mmaudio_model.pipeline import Pipeline

    device = choose_device(device)
    _check_report_file(output)
    if variant.note is not None and not as_json:
        click.echo(f"Note: {variant.name} is {variant.note}.", err=True)
    if weights_dir is not None and not as_json:
        click.echo(f"Weights: {describe_origins(origins, weights_dir)}.", err=True)
    pipeline = Pipeline.load(
        variant, weights_dir=weights_dir, device=device, precision=precision or default_precision(device)
    )
    begin = time.monotonic()
    figures = evaluate_world(
        pipeline,
        held_out_scenes(scenes, duration),
        SceneMetrics(load_classifier()),
        parts=selected,
        generation_options=GenerationOptions(**generation_options),
        on_progress=_progress(),
    )
    report = {
        "variant": variant.name,
        "weights": {part: str(path) for part, path in origins.items()},
        "scenes": scenes,
        "duration_s": duration,
        **generation_options,
        "device": device,
        "took_s": round(time.monotonic() - begin, 1),
        **figures,
    }
    lines = [line for line in (negative_line(report), speed_line(report)) if line]
    _finish(report, parts_table(report, ("true", "video", "shuffled", "text")), lines, output, as_json=as_json)


@eval_.command(cls=LocalCommand, short_help="Compare the files of two folders.")
@click.argument("generated", metavar="GENERATED", type=shared.INPUT_FOLDER)
@click.argument("reference", metavar="REFERENCE", type=shared.INPUT_FOLDER)
@click.option(
    "--labels",
    "labels_file",
    type=shared.INPUT_FILE,
    help="JSON object that maps file names (without suffix) to classes of the procedural world.",
)
@click.option(
    "--metric-weights",
    type=shared.INPUT_FOLDER,
    help="Folder with the pretrained networks of the published metrics (FD, KL, IS, CLAP, ImageBind, DeSync), which "
    "are then computed too. Nothing is downloaded.",
)
@click.option(
    "--captions",
    "captions_file",
    type=shared.INPUT_FILE,
    help="JSON object that maps file names (without suffix) to captions, for CLAP.",
)
@click.option("--videos", type=shared.INPUT_FOLDER, help="Folder with a video for each name, for ImageBind and DeSync.")
@_report_file
@shared.as_json
def folders(
    generated: Path,
    reference: Path,
    labels_file: Path | None,
    metric_weights: Path | None,
    captions_file: Path | None,
    videos: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compare files of the folder GENERATED with those of the same names in the folder REFERENCE.

    Both hold sound or video files; their names without suffix must agree.
    """
    if metric_weights is None and (captions_file or videos):
        raise click.UsageError("--captions and --videos need --metric-weights.")
    labels = _read_texts(labels_file, "labels", "drum") if labels_file is not None else None
    captions = _read_texts(captions_file, "captions", "a drum is beaten") if captions_file is not None else {}
    from mmaudio_model.evaluation.classifier import load_classifier
    from mmaudio_model.evaluation.folders import by_stem, evaluate_folders, pair_files
    from mmaudio_model.evaluation.pretrained_metrics.evaluate import Material, pretrained_metrics
    from mmaudio_model.evaluation.table import parts_table, pretrained_lines

    _check_report_file(output)
    pairs = pair_files(generated, reference)
    report = evaluate_folders(pairs, load_classifier(), labels=labels, on_progress=_progress())
    if metric_weights is not None:
        material = Material(pairs.both, captions, by_stem(videos) if videos is not None else {})
        report["pretrained"] = pretrained_metrics(material, metric_weights, on_progress=_progress())
    for folder, unpaired in ((generated, pairs.only_generated), (reference, pairs.only_reference)):
        if unpaired:
            more = f" and {len(unpaired) - SHOWN_NAMES} more" if len(unpaired) > SHOWN_NAMES else ""
            names = ", ".join(unpaired[:SHOWN_NAMES])
            click.echo(f"Warning: not compared, because only in {folder}: {names}{more}", err=True)
    table = parts_table({"generated": report}, ("generated",))
    _finish(report, table, pretrained_lines(report.get("pretrained", {})), output, as_json=as_json)


@eval_.command("train-classifier", cls=LocalCommand, short_help="Train the sound classifier from random weights.")
@click.option(
    "--sounds", type=click.IntRange(min=26), default=1560, show_default=True, help="Number of scenes to train on."
)
@click.option("--epochs", type=click.IntRange(min=1), default=12, show_default=True, help="Passes over the scenes.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of torch.")
@click.option("--output", type=shared.FILE, help="File to write. Default: the classifier in the package.")
@shared.as_json
def train_classifier_(sounds: int, epochs: int, threads: int, output: Path | None, as_json: bool) -> None:
    """Train the sound classifier from random weights: a few minutes."""
    import torch

    from mmaudio_model.evaluation.classifier import WEIGHTS, load_classifier
    from mmaudio_model.evaluation.classifier_training import (
        TRAINING_SEEDS_FROM,
        accuracy,
        held_out_sounds,
        render_sounds,
        save_classifier,
        train_classifier,
    )

    path = output or WEIGHTS
    _check_report_file(path)
    torch.set_num_threads(threads)
    click.echo(f"rendering the sound of {sounds} scenes", err=as_json)
    classifier = train_classifier(
        render_sounds(TRAINING_SEEDS_FROM, sounds),
        epochs=epochs,
        on_epoch=lambda epoch, loss: click.echo(f"epoch {epoch}/{epochs}: loss {loss:.3f}", err=as_json),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_classifier(classifier, path)
    held_out = held_out_sounds(HELD_OUT_SOUNDS)
    share = accuracy(load_classifier(path), held_out)
    if as_json:
        print_json({"classifier": str(path), "held_out_sounds": HELD_OUT_SOUNDS, "accuracy": share})
    else:
        click.echo(f"{path}: {share:.1%} of {HELD_OUT_SOUNDS} held-out true sounds are classified correctly")


def _read_texts(path: Path, what: str, example: str) -> dict[str, str]:
    """Return the texts of a JSON file by stem."""
    try:
        texts = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise CommandError(f"The {what} in {path} cannot be read: {exc}.", code="file_error") from exc
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise CommandError(
            f'The {what} in {path} must be one object, such as {{"clip-1": "{example}"}}.', code="file_error"
        )
    return texts


def _check_report_file(path: Path | None) -> None:
    """Check before a long run that its result can be written."""
    from mmaudio_model.local_run import check_writable

    if path is not None:
        check_writable(path.parent)


def _progress() -> Callable[[str, int, int], None]:
    """Return a callback that prints progress at intervals."""
    printed_at = 0.0

    def on_progress(name: str, done: int, count: int) -> None:
        nonlocal printed_at
        now = time.monotonic()
        if done == count or now - printed_at >= PROGRESS_INTERVAL_S:
            printed_at = now
            click.echo(f"{name}: {done} of {count}", err=True)

    return on_progress


def _finish(report: dict[str, Any], table: Table, lines: list[str], output: Path | None, *, as_json: bool) -> None:
    """Print the report, as a table or as JSON, and write it to the file."""
    if as_json:
        print_json(report)
    else:
        # A pipe has no width, and its reader needs whole lines.
        Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
        for line in lines:
            click.echo(line)
    if output is None:
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.name}.part")
    draft.write_text(json.dumps(report, indent=2) + "\n")
    draft.replace(output)
    click.echo(str(output), err=as_json)
