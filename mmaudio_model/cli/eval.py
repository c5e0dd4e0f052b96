"""`mmaudio eval`: how good sounds are, by measures that need no listener."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from mmaudio_model.errors import ModelError
from mmaudio_model.variants import VARIANTS, get_variant

if TYPE_CHECKING:
    from rich.table import Table

WORLD_PARTS = ("video", "shuffled", "text", "negative", "speed")
SAY_EVERY_S = 10.0
HELD_OUT_SOUNDS = 260
PIPE_WIDTH = 200


@click.group("eval")
def eval_() -> None:
    """SceneMetrics sounds: onsets, classes, distances."""


@eval_.command()
@click.option("--variant", "name", type=click.Choice(list(VARIANTS)), default="tiny_16k", show_default=True)
@click.option("--scenes", type=click.IntRange(min=4), default=200, show_default=True, help="Held-out scenes.")
@click.option("--duration", type=float, default=8.0, show_default=True, help="Seconds a scene.")
@click.option("--parts", default=",".join(WORLD_PARTS), show_default=True, help="Which parts, joined by commas.")
@click.option("--num-steps", type=click.IntRange(1, 100), default=25, show_default=True)
@click.option("--cfg-strength", type=click.FloatRange(0, 20), default=4.5, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--weights", "weights_dir", envvar="MMAUDIO_WEIGHTS_DIR", type=click.Path(path_type=Path))
@click.option("--device", help="cpu, cuda or cuda:N; default: cuda where there is one.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: bf16 on CUDA, fp32 on a CPU.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Also write the whole report as JSON.")
def world(
    name: str,
    scenes: int,
    duration: float,
    parts: str,
    weights_dir: Path | None,
    device: str | None,
    precision: str | None,
    output: Path | None,
    **generation_options: Any,
) -> None:
    """SceneMetrics a variant on held-out scenes of the procedural world.

    video: from the video alone. shuffled: the sound of another scene of the class, against this scene's events.
    text: from the words alone. negative: the video, with its caption as negative prompt. speed: one clip alone.
    """
    wanted = [part.strip() for part in parts.split(",") if part.strip()]
    unknown = sorted(set(wanted) - set(WORLD_PARTS))
    if unknown or not wanted:
        raise click.UsageError(f"Got parts {parts!r}; there are {', '.join(WORLD_PARTS)}.")
    # Imported here, so that `--help` and a wrong option need no torch.
    from mmaudio_model.evaluation.classifier import load_classifier
    from mmaudio_model.evaluation.scenes import held_out_scenes
    from mmaudio_model.evaluation.table import negative_line, parts_table, speed_line
    from mmaudio_model.evaluation.world import GenerationOptions, SceneMetrics, evaluate_world
    from mmaudio_model.local_run import default_device, default_precision
    from mmaudio_model.pipeline import Pipeline

    variant = get_variant(name)
    if variant.note is not None:
        click.echo(f"Note: {variant.name} is {variant.note}.", err=True)
    device = device or default_device()
    try:
        pipeline = Pipeline.load(
            variant, weights_dir=weights_dir, device=device, precision=precision or default_precision(device)
        )
        begin = time.monotonic()
        figures = evaluate_world(
            pipeline,
            held_out_scenes(scenes, duration),
            SceneMetrics(load_classifier()),
            parts=wanted,
            generation_options=GenerationOptions(**generation_options),
            on_progress=_progress(),
        )
    except (ModelError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    report = {
        "variant": variant.name,
        "scenes": scenes,
        "duration_s": duration,
        **generation_options,
        "device": device,
        "took_s": round(time.monotonic() - begin, 1),
        **figures,
    }
    _show(parts_table(report, ("true", "video", "shuffled", "text")))
    for line in (negative_line(report), speed_line(report)):
        if line:
            click.echo(line)
    _write(report, output)


@eval_.command()
@click.argument("generated", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("reference", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--labels",
    "labels_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON: an object of file names without ending and classes of the world.",
)
@click.option(
    "--metric-weights",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the field's networks: also FD, KL, IS, CLAP, ImageBind, DeSync. Nothing is downloaded.",
)
@click.option(
    "--captions",
    "captions_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON: an object of file names without ending and captions, for CLAP.",
)
@click.option(
    "--videos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with a video of each name, for ImageBind and DeSync.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Also write the whole report as JSON.")
def folders(
    generated: Path,
    reference: Path,
    labels_file: Path | None,
    metric_weights: Path | None,
    captions_file: Path | None,
    videos: Path | None,
    output: Path | None,
) -> None:
    """SceneMetrics generated sound or video files against reference files of the same names."""
    if metric_weights is None and (captions_file or videos):
        raise click.UsageError("--captions and --videos are for the field's metrics; give --metric-weights too.")
    labels = _read_texts(labels_file, "labels", "drum") if labels_file is not None else None
    captions = _read_texts(captions_file, "captions", "a drum is beaten") if captions_file is not None else {}
    from mmaudio_model.evaluation.classifier import load_classifier
    from mmaudio_model.evaluation.folders import by_stem, evaluate_folders, pair_files
    from mmaudio_model.evaluation.pretrained_metrics.evaluate import Material, pretrained_metrics
    from mmaudio_model.evaluation.table import parts_table, pretrained_lines

    try:
        pairs = pair_files(generated, reference)
        report = evaluate_folders(pairs, load_classifier(), labels=labels, on_progress=_progress())
        if metric_weights is not None:
            material = Material(pairs.both, captions, by_stem(videos) if videos is not None else {})
            report["pretrained"] = pretrained_metrics(material, metric_weights, on_progress=_progress())
    except (ModelError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    _show(parts_table({"generated": report}, ("generated",)))
    for line in pretrained_lines(report.get("pretrained", {})):
        click.echo(line)
    for folder, alone in ((generated, pairs.only_generated), (reference, pairs.only_reference)):
        if alone:
            click.echo(f"Note: {len(alone)} files stand only in {folder} and were not judged.", err=True)
    _write(report, output)


@eval_.command("train-classifier")
@click.option("--sounds", type=click.IntRange(min=26), default=1560, show_default=True, help="Scenes to train on.")
@click.option("--epochs", type=click.IntRange(min=1), default=12, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: the one that is shipped.")
def train_classifier_(sounds: int, epochs: int, threads: int, output: Path | None) -> None:
    """Train the sound classifier again from nothing: a few minutes."""
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

    torch.set_num_threads(threads)
    click.echo(f"rendering the sound of {sounds} scenes")
    classifier = train_classifier(
        render_sounds(TRAINING_SEEDS_FROM, sounds),
        epochs=epochs,
        on_epoch=lambda epoch, loss: click.echo(f"epoch {epoch}/{epochs}: loss {loss:.3f}"),
    )
    path = output or WEIGHTS
    save_classifier(classifier, path)
    held_out = held_out_sounds(HELD_OUT_SOUNDS)
    share = accuracy(load_classifier(path), held_out)
    click.echo(f"{path}: {share:.1%} of {HELD_OUT_SOUNDS} held-out true sounds are put into their class")


def _read_texts(path: Path, what: str, example: str) -> dict[str, str]:
    """Return a text for each stem, of a JSON file."""
    try:
        texts = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise click.ClickException(f"The {what} in {path} cannot be read: {exc}.") from exc
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise click.ClickException(f'The {what} in {path} must be one object, such as {{"clip-1": "{example}"}}.')
    return texts


def _progress() -> Callable[[str, int, int], None]:
    """Return something that says now and then how far it is."""
    said_at = 0.0

    def say(name: str, done: int, count: int) -> None:
        nonlocal said_at
        now = time.monotonic()
        if done == count or now - said_at >= SAY_EVERY_S:
            said_at = now
            click.echo(f"{name}: {done} of {count}", err=True)

    return say


def _show(table: Table) -> None:
    # Behind a pipe there is no width, and what reads it wants whole lines.
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _write(report: dict[str, Any], output: Path | None) -> None:
    if output is None:
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draft = output.with_name(f".{output.name}.part")
        draft.write_text(json.dumps(report, indent=2) + "\n")
        draft.replace(output)
    except OSError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(str(output))
