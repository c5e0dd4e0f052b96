"""`mmaudio generate`: one video, image or text to sound on this machine, without the platform."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from mmaudio_model.checkpoints.parts import needed_parts
from mmaudio_model.errors import ModelError
from mmaudio_model.variants import VARIANTS, Variant, get_variant

if TYPE_CHECKING:
    from mmaudio_model.pipeline import Pipeline

LONGEST_STEM = 80
LONGEST_STEM_BYTES = 200
"""File systems take 255 bytes a name, and a letter may have four."""


@click.command()
@click.option("--variant", "name", type=click.Choice(list(VARIANTS)), default="tiny_16k", show_default=True)
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prompt", default="")
@click.option("--negative-prompt", default="")
@click.option(
    "--duration", type=float, help="Seconds; default: the video's length (8 if exactly as published), else 8."
)
@click.option("--cfg-strength", type=click.FloatRange(0, 20), default=4.5, show_default=True)
@click.option("--num-steps", type=click.IntRange(1, 100), default=25, show_default=True)
@click.option(
    "--num-samples", type=click.IntRange(1, 8), default=1, show_default=True, help="Takes, seeds SEED, SEED+1, ..."
)
@click.option("--mask-away-clip", is_flag=True, help="Use the motion only.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("output"), show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=42, show_default=True)
@click.option("--skip-video-composite", is_flag=True, help="Write the sound only.")
@click.option("--full-precision", is_flag=True, help="float32; the default on a CPU.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: bf16 on CUDA, fp32 on a CPU.")
@click.option("--weights", "weights_dir", envvar="MMAUDIO_WEIGHTS_DIR", type=click.Path(path_type=Path))
@click.option("--device", help="cpu, cuda or cuda:N; default: cuda where there is one.")
@click.option(
    "--audio-format", type=click.Choice(["flac", "wav", "mp3", "opus", "m4a"]), default="flac", show_default=True
)
@click.option(
    "--reference-exact",
    is_flag=True,
    help="Repeat the published program's faults too (frame choice, rotation ignored, untrimmed sound), to compare.",
)
@click.option(
    "--dump-intermediates",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Also write what every stage gave: frames, features, noise, latent, mel, waveform.",
)
def generate(name: str, video: Path | None, image: Path | None, output: Path, **options: Any) -> None:
    """Make sound here, without the platform."""
    if video is not None and image is not None:
        raise click.UsageError("Give --video or --image, not both.")
    if video is not None and not options["skip_video_composite"] and _overwrites(output, video):
        raise click.UsageError(f"The result would overwrite {video}; give another --output.")
    try:
        paths = _generate(get_variant(name), video, image, output, options)
    except (ModelError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    for path in paths:
        click.echo(str(path))


def _overwrites(output: Path, video: Path) -> bool:
    results = (output / f"{video.stem}.{kind}" for kind in ("mp4", "webm"))
    return any(path.exists() and path.samefile(video) for path in results)


def _generate(
    variant: Variant, video: Path | None, image: Path | None, output: Path, options: dict[str, Any]
) -> list[Path]:
    # Imported here, so that `--help` and a wrong option need no torch.
    parts = needed_parts(video=video is not None, image=image is not None, mask_away_clip=options["mask_away_clip"])
    from mmaudio_model.intermediates import IntermediateRecorder
    from mmaudio_model.local_run import GenerationOptions, read_request, write_result

    if variant.note is not None:
        click.echo(f"Note: {variant.name} is {variant.note}.", err=True)
    generation_options = GenerationOptions(**{field.name: options[field.name] for field in fields(GenerationOptions)})
    recorder = IntermediateRecorder() if options["dump_intermediates"] is not None else None
    with Progress(console=Console(stderr=True), transient=True) as bar:
        # The file is judged before the model is loaded: a broken one is said at once.
        request = read_request(variant, generation_options, video=video, image=image, duration_s=options["duration"])
        _say(request.video.warnings if request.video is not None else ())
        pipeline = _load(variant, parts, options, bar)
        task = bar.add_task("sample", total=request.num_steps)
        requests = [replace(request, seed=(request.seed + take) % 2**63) for take in range(options["num_samples"])]

        def after_step(step: int, _steps: int) -> None:
            bar.update(task, completed=step)

        waveforms = pipeline.generate(
            requests,
            on_stage=lambda stage: bar.update(task, description=stage),
            on_step=after_step,
            on_intermediate=recorder,
        )
    stem = video.stem if video else image.stem if image else _stem_of(options["prompt"])
    written: list[Path] = []
    for take, waveform in enumerate(waveforms):
        assert waveform is not None, "nobody asked it to leave the batch"
        result = write_result(
            output,
            f"{stem}-{take + 1}" if len(waveforms) > 1 else stem,
            waveform,
            variant,
            audio_format=options["audio_format"],
            video=None if options["skip_video_composite"] else video,
            duration_s=request.duration_s,
        )
        _say(result.warnings)
        written += result.paths
    if recorder is not None:
        recorder.save(options["dump_intermediates"])
        written.append(options["dump_intermediates"])
    return written


def _load(variant: Variant, parts: tuple[str, ...], options: dict[str, Any], bar: Progress) -> Pipeline:
    from mmaudio_model.local_run import default_device, default_precision
    from mmaudio_model.pipeline import Pipeline

    device = options["device"] or default_device()
    precision = "fp32" if options["full_precision"] else options["precision"] or default_precision(device)
    task = bar.add_task("load", total=len(parts))
    pipeline = Pipeline.load(
        variant,
        weights_dir=options["weights_dir"],
        device=device,
        precision=precision,
        parts=parts,
        on_part=lambda part: bar.update(task, advance=1, description=f"load {part}"),
    )
    bar.remove_task(task)
    return pipeline


def _say(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"Note: {warning}", err=True)


def _stem_of(prompt: str) -> str:
    """Return a file name made of a prompt: letters, digits and dashes, never empty, never too long."""
    stem = re.sub(r"[^\w]+", "-", prompt).strip("-")[:LONGEST_STEM]
    return stem.encode()[:LONGEST_STEM_BYTES].decode(errors="ignore") or "sound"
