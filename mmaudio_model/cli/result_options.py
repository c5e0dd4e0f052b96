"""Options of `mmaudio generate` that say what the result's files are: sounds, mix, tracks, container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmaudio_model.cli import options as shared
from mmaudio_model.errors import MediaError

if TYPE_CHECKING:
    from mmaudio_model.local_run import PreparedVideo, ResultOptions

SAMPLE_RATES_HZ = ("16000", "22050", "24000", "32000", "44100", "48000", "88200", "96000")
_OPTIONS = (
    click.option("--channels", type=click.IntRange(1, 2), default=1, show_default=True, help="Channels of the sound."),
    click.option(
        "--sample-rate",
        "sample_rate_hz",
        type=click.Choice(SAMPLE_RATES_HZ),
        help="Sample rate of the sounds in Hz. Default: the model's; of a mix, the original sound's.",
    ),
    click.option(
        "--loudness",
        "loudness_lufs",
        type=shared.FiniteFloatRange(min=-60, max=-5),
        metavar="LUFS",
        help="Normalise the sound, and a mix as a whole, to this loudness (ITU-R BS.1770), -60 to -5.",
    ),
    click.option(
        "--original-audio",
        type=click.Choice(["drop", "mix"]),
        default="drop",
        show_default=True,
        help="Drop the video's own sound, or mix the new one into it.",
    ),
    click.option(
        "--original-gain-db",
        type=shared.FiniteFloatRange(min=-60, max=20),
        metavar="DB",
        help="Gain of the video's own sound in the mix, -60 to 20. Default: 0.",
    ),
    click.option(
        "--duck-db",
        type=shared.FiniteFloatRange(min=0, max=60),
        metavar="DB",
        help="Lower the video's own sound in the mix by this much while the new one is heard, 0 to 60.",
    ),
    click.option(
        "--audio-files",
        type=click.Choice(["effect", "mix", "both"]),
        default="effect",
        show_default=True,
        help="With --original-audio mix: whether sound files have the new sound, the mix, or there is one of each.",
    ),
    click.option(
        "--keep-tracks/--no-keep-tracks",
        default=True,
        show_default=True,
        help="Keep the video's other audio tracks, subtitles, chapters, time code and tags where the container can.",
    ),
    click.option(
        "--container",
        type=click.Choice(["auto", "mp4", "mov", "mkv", "webm"]),
        default="auto",
        show_default=True,
        help="Container of the video; auto: the source's, where the video can be copied into it.",
    ),
)


def result_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_result_options(options: dict[str, Any]) -> None:
    """Refuse options that cannot work together; needs no torch."""
    mixes = options["original_audio"] == "mix"
    if options["video"] is None:
        for name, given in (("--start", options["start_s"] > 0), ("--original-audio mix", mixes)):
            if given:
                raise click.UsageError(f"{name} needs --video.")
    if options["start_s"] > 0 and options["reference_exact"]:
        raise click.UsageError("--reference-exact reads from the beginning of a video; leave --start out.")
    if not mixes:
        for name in ("original_gain_db", "duck_db"):
            if options[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} needs --original-audio mix.")
        if options["audio_files"] != "effect":
            raise click.UsageError(f"--audio-files {options['audio_files']} needs --original-audio mix.")
    elif options["skip_video_composite"] and options["audio_files"] == "effect":
        raise click.UsageError("With --skip-video-composite the mix is in no file; give --audio-files mix or both.")


def made_options(options: dict[str, Any]) -> ResultOptions:
    """Return how results are written."""
    from mmaudio_model.local_run import ResultOptions
    from mmaudio_model.result_sounds import SoundOptions

    rate = options["sample_rate_hz"]
    return ResultOptions(
        sounds=SoundOptions(
            channels=options["channels"],
            sample_rate_hz=int(rate) if rate is not None else None,
            loudness_lufs=options["loudness_lufs"],
            mixes=options["original_audio"] == "mix",
            original_gain_db=options["original_gain_db"] or 0.0,
            duck_db=options["duck_db"],
        ),
        audio_files=options["audio_files"],
        container=options["container"],
        keep_tracks=options["keep_tracks"],
    )


def prepared_source(
    video: Path | None, written: ResultOptions, options: dict[str, Any], duration_s: float
) -> PreparedVideo | None:
    """Return the video as far as results need it; None where they do not.

    Raises:
        MediaError: it cannot be read, or not be written as requested.
    """
    from mmaudio_model.local_run import prepare_video

    if video is None:
        return None
    only_sound = options["skip_video_composite"] and not written.sounds.mixes
    if only_sound and options["audio_format"] != "wav":
        return None
    try:
        return prepare_video(video, written, start_s=options["start_s"], duration_s=duration_s)
    except MediaError:
        if only_sound:  # of the time code alone
            return None
        raise
