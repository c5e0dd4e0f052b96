"""`mmaudio generate`: one video, image or text to sound on this machine, without the platform."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from mmaudio_model.errors import ModelError
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.variants import VARIANTS, Variant, get_variant

if TYPE_CHECKING:
    from mmaudio_model.pipeline import GenerationRequest, Pipeline

LONGEST_STEM = 80


@click.command()
@click.option("--variant", "name", type=click.Choice(list(VARIANTS)), default="tiny_16k", show_default=True)
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prompt", default="")
@click.option("--negative-prompt", default="")
@click.option("--duration", type=float, help="Seconds; default: the video's length, else 8.")
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
@click.option("--audio-format", type=click.Choice(["flac", "wav", "mp3", "opus", "m4a"]), default="flac")
def generate(name: str, video: Path | None, image: Path | None, output: Path, **options: Any) -> None:
    """Make sound here, without the platform."""
    if video is not None and image is not None:
        raise click.UsageError("Give --video or --image, not both.")
    try:
        paths = _generate(get_variant(name), video, image, output, options)
    except ModelError as exc:
        raise click.ClickException(str(exc)) from exc
    for path in paths:
        click.echo(str(path))


def _generate(
    variant: Variant, video: Path | None, image: Path | None, output: Path, options: dict[str, Any]
) -> list[Path]:
    if not variant.trained:
        click.echo(f"Note: {variant.name} is {variant.note}.", err=True)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        # The file is judged before the model is loaded: a broken one is said at once.
        request = _request(variant, video, image, options)
        pipeline = _load(variant, options, bar)
        task = bar.add_task("sample", total=request.num_steps)
        requests = [replace(request, seed=(request.seed + take) % 2**63) for take in range(options["num_samples"])]

        def after_step(step: int, _steps: int) -> None:
            bar.update(task, completed=step)

        waveforms = pipeline.generate(
            requests,
            on_stage=lambda stage: bar.update(task, description=stage),
            on_step=after_step,
        )
    stem = video.stem if video else image.stem if image else _stem_of(options["prompt"])
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for take, waveform in enumerate(waveforms):
        suffix = f"-{take + 1}" if len(waveforms) > 1 else ""
        composite = video if not options["skip_video_composite"] else None
        written += _write(output, f"{stem}{suffix}", waveform, variant, composite, request.duration_s, options)
    return written


def _request(variant: Variant, video: Path | None, image: Path | None, options: dict[str, Any]) -> GenerationRequest:
    from mmaudio_model.lengths import sequence_lengths
    from mmaudio_model.media.frames import read_video_frames
    from mmaudio_model.media.image import read_image
    from mmaudio_model.pipeline import GenerationRequest

    duration_s = options["duration"] or (variant.max_duration_s if video else variant.default_duration_s)
    frames = picture = None
    if video is not None:
        with video.open("rb") as file:
            frames = read_video_frames(
                file,
                start_s=0.0,
                duration_s=duration_s,
                clip_size=variant.clip.frame_size,
                sync_size=variant.sync.frame_size,
                limits=MediaLimits(),
            )
        duration_s = frames.duration_s
        for warning in frames.warnings:
            click.echo(f"Note: {warning}", err=True)
    if image is not None:
        with image.open("rb") as file:
            picture = read_image(file, clip_size=variant.clip.frame_size, limits=MediaLimits())
    sequence_lengths(variant, duration_s)  # refuses what the variant cannot make, before anything is loaded
    return GenerationRequest(
        duration_s=duration_s,
        seed=options["seed"],
        prompt=options["prompt"],
        negative_prompt=options["negative_prompt"],
        num_steps=options["num_steps"],
        cfg_strength=options["cfg_strength"],
        mask_away_clip=options["mask_away_clip"],
        video=frames,
        image=picture,
    )


def _load(variant: Variant, options: dict[str, Any], bar: Progress) -> Pipeline:
    import torch

    from mmaudio_model.pipeline import Pipeline

    device = options["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    precision = options["precision"] or (
        "bf16" if device.startswith("cuda") and not options["full_precision"] else "fp32"
    )
    task = bar.add_task("load", total=5)
    pipeline = Pipeline.load(
        variant,
        weights_dir=options["weights_dir"],
        device=device,
        precision=precision,
        on_part=lambda part: bar.update(task, advance=1, description=f"load {part}"),
    )
    bar.remove_task(task)
    return pipeline


def _write(
    output: Path,
    stem: str,
    waveform: Any,
    variant: Variant,
    video: Path | None,
    duration_s: float,
    options: dict[str, Any],
) -> list[Path]:
    from mmaudio_model.media.audio import write_audio
    from mmaudio_model.media.mux import mux_video

    sound = output / f"{stem}.{options['audio_format']}"
    write_audio(sound, waveform, variant.sample_rate_hz, options["audio_format"])
    if video is None:
        return [sound]
    with tempfile.TemporaryDirectory(dir=output, prefix=".mux-") as folder, video.open("rb") as file:
        draft = Path(folder) / "video"
        result = mux_video(
            file, waveform, variant.sample_rate_hz, draft, start_s=0.0, duration_s=duration_s, limits=MediaLimits()
        )
        for warning in result.warnings:
            click.echo(f"Note: {warning}", err=True)
        return [sound, draft.replace(output / f"{stem}.{result.format}")]


def _stem_of(prompt: str) -> str:
    """Return a file name made of a prompt: letters, digits and dashes, never empty, never too long."""
    return re.sub(r"[^\w]+", "-", prompt).strip("-")[:LONGEST_STEM] or "sound"
