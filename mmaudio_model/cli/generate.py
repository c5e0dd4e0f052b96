"""`mmaudio generate`: sound for one video, image or text, generated on this machine without a server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from mmaudio_model.checkpoints.folder import check_folder_for
from mmaudio_model.checkpoints.origin import describe_origins, part_files
from mmaudio_model.checkpoints.parts import needed_parts
from mmaudio_model.cli import options as shared
from mmaudio_model.cli.command import LocalCommand, print_json
from mmaudio_model.cli.result_options import check_result_options, made_options, prepared_source, result_options
from mmaudio_model.variants import Variant, get_variant

if TYPE_CHECKING:
    import numpy as np

    from mmaudio_model.intermediates import IntermediateRecorder
    from mmaudio_model.local_run import PreparedVideo, ResultOptions, WrittenFiles
    from mmaudio_model.pipeline import GenerationRequest, Pipeline

# As in `media.container_rules` and `media.picture_file`, which are not imported for a help text.
VIDEO_KINDS = (
    "MP4, MOV, M4V, 3GP, MKV, WebM, AVI, MPEG-TS, MPEG-PS (VOB), MXF, FLV, OGV, WMV (ASF), DV, GIF, APNG, animated WebP"
)
IMAGE_KINDS = "JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC, AVIF"
LONGEST_STEM = 80
LONGEST_STEM_BYTES = 200
"""File systems allow 255 bytes per name, and a character may have four."""


@click.command(cls=LocalCommand)
@shared.variant(default="tiny_16k")
@click.option("--video", type=shared.INPUT_FILE, help=f"Video to generate sound for: {VIDEO_KINDS}.")
@click.option(
    "--image", type=shared.INPUT_FILE, help=f"Still image to generate sound for, instead of a video: {IMAGE_KINDS}."
)
@click.option("--prompt", help="Text that describes the sound, in English; at most 75 tokens are used.")
@click.option("--negative-prompt", default="", help="Text that describes what the sound should not be.")
@click.option(
    "--start",
    "start_s",
    type=shared.FiniteFloatRange(min=0),
    default=0.0,
    help="Start of the section of the video to use, in seconds; default: 0.",
)
@click.option(
    "--duration",
    type=shared.SECONDS,
    help="Length of the sound in seconds. Default: the video's length, up to the variant's limit; 8 without a video, "
    "and with --reference-exact.",
)
@shared.cfg_strength
@shared.num_steps
@click.option(
    "--num-samples",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="Number of results, generated together with the seeds SEED, SEED+1, ...",
)
@click.option("--mask-away-clip", is_flag=True, help="Use only the motion in the video, not what it shows.")
@click.option(
    "--output",
    type=shared.FOLDER,
    default=Path("output"),
    show_default=True,
    help="Folder for the results; they are named after the input. It is created if it does not exist.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace earlier results of the same name instead of appending -2, -3, ..."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=42,
    show_default=True,
    help="Seed of the noise; the same seed and arguments give the same sound.",
)
@click.option("--skip-video-composite", is_flag=True, help="Write only the sound, not the video with it.")
@click.option("--full-precision", is_flag=True, help="The same as --precision fp32, and takes precedence over it.")
@shared.precision
@shared.weights_dir
@shared.device
@click.option(
    "--audio-format",
    type=click.Choice(["flac", "wav", "mp3", "opus", "m4a"]),
    default="flac",
    show_default=True,
    help="Format of the sound file. A WAV of a video with a time code is a Broadcast WAV with its time reference.",
)
@result_options
@click.option(
    "--reference-exact",
    is_flag=True,
    help="Reproduce the published program, faults included (frame choice, ignored rotation, untrimmed sound), "
    "to compare with it.",
)
@click.option(
    "--dump-intermediates",
    type=shared.FILE,
    metavar="FILE.npz",
    help="Also write the result of every stage: frames, features, noise, latent, mel spectrogram, waveform.",
)
@shared.as_json
def generate(name: str, output: Path, as_json: bool, **options: Any) -> None:
    """Generate sound for a video, an image or a text on this machine.

    Writes OUTPUT/NAME.flac and, for a video, OUTPUT/NAME.mp4 (or .mov, .mkv, .webm): the video with the sound. With
    --original-audio mix the sounds are NAME-effect.flac and NAME-mix.flac. Prints their paths.
    """
    video, image, dump = options["video"], options["image"], options["dump_intermediates"]
    _check_arguments(output, options)
    variant = get_variant(name)
    check_folder_for(variant, options["weights_dir"])
    origins = part_files(variant, options["weights_dir"])
    # Imported here, so that `--help` and a wrong option need no torch.
    from mmaudio_model.devices import choose_device
    from mmaudio_model.intermediates import IntermediateRecorder
    from mmaudio_model.local_run import GenerationOptions, check_writable, read_request, request_warnings

    options["device"] = choose_device(options["device"])
    for folder in [output] if dump is None else [output, dump.parent]:
        check_writable(folder)
    report = Report(as_json=as_json)
    report.notes(variant, options["weights_dir"], origins)
    options["prompt"] = options["prompt"] or ""
    generation_options = GenerationOptions(**{field.name: options[field.name] for field in fields(GenerationOptions)})
    # The file is read before the model is loaded: a broken one is reported at once.
    start_s, duration_s, written_options = options["start_s"], options["duration"], made_options(options)
    request = read_request(
        variant, generation_options, video=video, image=image, duration_s=duration_s, start_s=start_s
    )
    report.warn(request_warnings(request, duration_s, video=video, start_s=start_s, longest_s=variant.max_duration_s))
    # What cannot be muxed is refused before the model runs as well.
    source = prepared_source(video, written_options, options, request.duration_s)
    report.warn(tuple(warning.text for warning in source.warnings) if source is not None else ())
    requests = [replace(request, seed=(request.seed + take) % 2**63) for take in range(options["num_samples"])]
    recorder = IntermediateRecorder() if dump is not None else None
    waveforms = _run(variant, requests, recorder, options)
    _write(variant, requests, waveforms, output, options, written_options, source, report)
    if recorder is not None:
        recorder.save(dump)
    report.finish(variant, origins, dump)


class Report:
    """What the command prints: lines as they come, or with `--json` one document at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._warnings: dict[str, None] = {}
        self._results: list[dict[str, Any]] = []

    def notes(self, variant: Variant, weights_dir: Path | None, origins: dict[str, Path]) -> None:
        if self._as_json:
            return
        if variant.note is not None:
            click.echo(f"Note: {variant.name} is {variant.note}.", err=True)
        if weights_dir is not None:
            click.echo(f"Weights: {describe_origins(origins, weights_dir)}.", err=True)

    def warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            if not self._as_json and warning not in self._warnings:
                click.echo(f"Warning: {warning}", err=True)
            self._warnings[warning] = None

    def result(self, files: WrittenFiles, *, seed: int, duration_s: float) -> None:
        self.warn(files.warnings)
        if not self._as_json:
            click.echo("\n".join(map(str, files.paths)))
        result: dict[str, Any] = {"sound": str(files.sound), "video": str(files.video) if files.video else None}
        if len(files.sounds) > 1:
            result["sounds"] = [str(path) for path in files.sounds]
        result |= {"seed": seed, "duration_s": round(duration_s, 3)}
        self._results.append(result)

    def finish(self, variant: Variant, origins: dict[str, Path], dump: Path | None) -> None:
        if self._as_json:
            print_json(
                {
                    "variant": variant.name,
                    "results": self._results,
                    "intermediates": str(dump) if dump is not None else None,
                    "weights": {part: str(path) for part, path in origins.items()},
                    "warnings": list(self._warnings),
                }
            )
        elif dump is not None:
            click.echo(str(dump))


def _check_arguments(output: Path, options: dict[str, Any]) -> None:
    """Refuse arguments that cannot work together; needs no torch."""
    video, image, dump = options["video"], options["image"], options["dump_intermediates"]
    if video is not None and image is not None:
        raise click.UsageError("Give --video or --image, not both.")
    if video is None and image is None and not (options["prompt"] or "").strip():
        raise click.UsageError("Give --video, --image or --prompt.")
    check_result_options(options)
    if options["overwrite"] and video is not None and not options["skip_video_composite"]:
        results = (output / f"{_stem(video, '')}.{suffix}" for suffix in ("mp4", "mov", "mkv", "webm"))
        if any(path.exists() and path.samefile(video) for path in results):
            raise click.UsageError(f"The result would overwrite the input {video}; give another --output.")
    if dump is not None and dump.exists() and not options["overwrite"]:
        raise click.UsageError(f"{dump} exists; give another file for --dump-intermediates, or --overwrite.")


def _run(
    variant: Variant,
    requests: list[GenerationRequest],
    recorder: IntermediateRecorder | None,
    options: dict[str, Any],
) -> list[np.ndarray]:
    """Load the model and generate a waveform for each request, with a progress bar."""
    from mmaudio_model.devices import default_precision
    from mmaudio_model.pipeline import Pipeline

    first, device = requests[0], options["device"]
    parts = needed_parts(
        video=first.video is not None, image=first.image is not None, mask_away_clip=first.mask_away_clip
    )
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("load", total=len(parts))
        pipeline = Pipeline.load(
            variant,
            weights_dir=options["weights_dir"],
            device=device,
            precision="fp32" if options["full_precision"] else options["precision"] or default_precision(device),
            parts=parts,
            on_part=lambda part: bar.update(task, advance=1, description=f"load {part}"),
        )
        bar.remove_task(task)
        return _sample(pipeline, requests, recorder, bar)


def _sample(
    pipeline: Pipeline, requests: list[GenerationRequest], recorder: IntermediateRecorder | None, bar: Progress
) -> list[np.ndarray]:
    task = bar.add_task("sample", total=requests[0].num_steps)

    def after_step(step: int, _steps: int) -> None:
        bar.update(task, completed=step)

    waveforms = pipeline.generate(
        requests,
        on_stage=lambda stage: bar.update(task, description=stage),
        on_step=after_step,
        on_intermediate=recorder,
    )
    made = [waveform for waveform in waveforms if waveform is not None]
    assert len(made) == len(requests), "no step callback removes a request from the batch"
    return made


def _write(
    variant: Variant,
    requests: list[GenerationRequest],
    waveforms: list[np.ndarray],
    output: Path,
    options: dict[str, Any],
    written_options: ResultOptions,
    source: PreparedVideo | None,
    report: Report,
) -> None:
    from mmaudio_model.local_run import write_result

    stem = _stem(options["video"] or options["image"], options["prompt"])
    for number, (request, waveform) in enumerate(zip(requests, waveforms, strict=True), 1):
        files = write_result(
            output,
            stem,
            waveform,
            variant,
            audio_format=options["audio_format"],
            options=written_options,
            source=source,
            with_video=not options["skip_video_composite"],
            take=number if len(requests) > 1 else None,
            overwrite=options["overwrite"],
        )
        report.result(files, seed=request.seed, duration_s=len(waveform) / variant.sample_rate_hz)


def _stem(source: Path | None, prompt: str) -> str:
    """Return the name of the results without suffix: the input file's, or one made of the prompt; never too long."""
    # Letters, digits and dashes only: a prompt may hold slashes and line breaks.
    words = re.sub(r"[^\w]+", "-", prompt).strip("-")[:LONGEST_STEM] or "sound"
    stem = source.stem if source is not None else words
    return stem.encode()[:LONGEST_STEM_BYTES].decode(errors="ignore")
