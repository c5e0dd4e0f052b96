"""A generation on this machine, from files to files: shared by `mmaudio generate` and the Gradio app."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Literal

import numpy as np

from mmaudio_model.errors import MediaTooLargeError, OutputNotWritableError
from mmaudio_model.lengths import sequence_lengths
from mmaudio_model.media.audio import Sound, write_audio
from mmaudio_model.media.broadcast_wave import BroadcastFacts
from mmaudio_model.media.frames import ImageFrame, VideoFrames, read_video_frames
from mmaudio_model.media.image import read_image
from mmaudio_model.media.media_warning import MediaWarning
from mmaudio_model.media.mixing import read_original_sound
from mmaudio_model.media.mux.plan import MuxOptions, MuxPlan, plan_mux
from mmaudio_model.media.mux.writing import mux_video
from mmaudio_model.media.probe import MediaLimits, probe_video
from mmaudio_model.media.reference import read_image_exactly, read_video_frames_exactly
from mmaudio_model.media.source_facts import read_source_facts
from mmaudio_model.pipeline import GenerationRequest, text_is_cut
from mmaudio_model.result_sounds import ResultSounds, SoundOptions, result_sounds, silence_warnings
from mmaudio_model.source_length import length_warnings
from mmaudio_model.variants import Variant

LIMITS = MediaLimits()


@dataclass(frozen=True)
class GenerationOptions:
    """Options of a generation, with the published program's defaults."""

    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 42
    num_steps: int = 25
    cfg_strength: float = 4.5
    mask_away_clip: bool = False
    reference_exact: bool = False


@dataclass(frozen=True)
class ResultOptions:
    """How results are written, with the defaults of the HTTP API.

    Attributes:
        audio_files: which sounds become audio files, if the original sound is mixed in.
        container, keep_tracks: of the video; see `media.mux.plan.MuxOptions`.
    """

    sounds: SoundOptions = field(default_factory=SoundOptions)
    audio_files: Literal["effect", "mix", "both"] = "effect"
    container: Literal["auto", "mp4", "mov", "mkv", "webm"] = "auto"
    keep_tracks: bool = True


@dataclass(frozen=True)
class PreparedVideo:
    """What is known of a result with a video before the sound is made: how it is muxed, and its original sound."""

    path: Path
    options: MuxOptions
    plan: MuxPlan
    original: Sound | None = None
    warnings: tuple[MediaWarning, ...] = ()


@dataclass(frozen=True)
class WrittenFiles:
    """The files of one result."""

    sounds: tuple[Path, ...]
    video: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def sound(self) -> Path:
        """The first sound: the generated one, if it is a file."""
        return self.sounds[0]

    @property
    def paths(self) -> list[Path]:
        """The sounds, then the video if there is one."""
        return [*self.sounds] if self.video is None else [*self.sounds, self.video]


def check_writable(folder: Path) -> None:
    """Check that files can be written to a folder, or that the folder can be created; nothing is left behind.

    Raises:
        OutputNotWritableError: they cannot.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise OutputNotWritableError(f"Cannot write to {folder}: {existing} is a file, not a folder.")
    try:
        # A real file: permissions alone do not show a read-only or full file system.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as exc:
        raise OutputNotWritableError(f"Cannot write to {folder}: {exc.strerror or exc}.") from exc


def read_request(
    variant: Variant,
    generation_options: GenerationOptions,
    *,
    video: Path | None,
    image: Path | None,
    duration_s: float | None,
    start_s: float = 0.0,
) -> GenerationRequest:
    """Read the files of a request, as the platform's workers do, so that equal requests give equal sounds.

    Args:
        duration_s: seconds; None: the video's length, up to the variant's limit. Without a video, and with
            `reference_exact`, None means the variant's default.
        start_s: start of the section of the video, in seconds; 0 with `reference_exact`.

    Raises:
        RequestInvalidError: the variant cannot generate that duration.
        MediaError: the file is not a video or image that can be read.
        OSError: the file cannot be opened.
    """
    if duration_s is None:
        whole = video is not None and not generation_options.reference_exact
        duration_s = variant.max_duration_s if whole else variant.default_duration_s
    sequence_lengths(variant, duration_s)  # raises for an invalid duration, before a file is read
    frames = None
    if video is not None:
        frames = _read_video(video, variant, start_s, duration_s, generation_options.reference_exact)
    picture = _read_image(image, variant, generation_options.reference_exact) if image is not None else None
    if frames is not None:
        duration_s = frames.duration_s
        sequence_lengths(variant, duration_s)  # the video may be shorter than requested, and too short
    return GenerationRequest(
        duration_s=duration_s,
        seed=generation_options.seed,
        prompt=generation_options.prompt,
        negative_prompt=generation_options.negative_prompt,
        num_steps=generation_options.num_steps,
        cfg_strength=generation_options.cfg_strength,
        mask_away_clip=generation_options.mask_away_clip,
        video=frames,
        image=picture,
        reference_exact=generation_options.reference_exact,
    )


def request_warnings(
    request: GenerationRequest,
    duration_s: float | None,
    *,
    video: Path | None = None,
    start_s: float = 0.0,
    longest_s: float | None = None,
) -> tuple[str, ...]:
    """Return what the user should know about a request before it runs.

    Args:
        duration_s: as requested, in seconds; None: no duration was requested.
        video: the file that the request's frames were read from, from `start_s` on.
        longest_s: the longest sound that the variant makes; None: that of the request.
    """
    warnings: list[str] = []
    if request.image is not None:
        warnings += (warning.text for warning in request.image.warnings)
    if request.video is not None:
        length_s = None
        if video is not None:
            with video.open("rb") as file:
                length_s = probe_video(file, LIMITS).duration_s
                file.seek(0)
                source = read_source_facts(
                    file, section_end_s=start_s + (duration_s or longest_s or 0.0), limits=LIMITS
                )
            warnings += (warning.text for warning in source.warnings)
        found = length_warnings(
            request.duration_s,
            duration_s,
            start_s=start_s,
            longest_s=request.duration_s if longest_s is None else longest_s,
            source_s=length_s,
        )
        warnings += (warning.text for warning in (*request.video.warnings, *found))
    for name, text in (("prompt", request.prompt), ("negative prompt", request.negative_prompt)):
        if text and text_is_cut(text):
            warnings.append(f"The {name} was truncated to its first 75 tokens.")
    return tuple(warnings)


def prepare_video(path: Path, options: ResultOptions, *, start_s: float = 0.0, duration_s: float) -> PreparedVideo:
    """Decide how a section of a video is muxed, and read its original sound if that is mixed in.

    Raises:
        MediaError: the video cannot be read, or not be written as requested.
        OSError: the file cannot be opened.
    """
    mux_options = MuxOptions(start_s, duration_s, options.container, options.keep_tracks)
    with path.open("rb") as file:
        plan = plan_mux(file, mux_options, LIMITS)
        if not options.sounds.mixes:
            return PreparedVideo(path, mux_options, plan, None, plan.warnings)
        file.seek(0)
        original = read_original_sound(file, start_s=start_s, duration_s=duration_s, limits=LIMITS)
    return PreparedVideo(path, mux_options, plan, original.sound, (*plan.warnings, *original.warnings))


def write_result(
    folder: Path,
    stem: str,
    waveform: np.ndarray,
    variant: Variant,
    *,
    audio_format: str = "flac",
    video: Path | None = None,
    duration_s: float = 0.0,
    options: ResultOptions | None = None,
    source: PreparedVideo | None = None,
    with_video: bool = True,
    take: int | None = None,
    overwrite: bool = False,
) -> WrittenFiles:
    """Write the sounds, and the first `duration_s` seconds of `video` with it, to `<folder>/<stem>.*`.

    If a file of that name exists, a number is appended: `<stem>-2.*`, `<stem>-3.*` and so on, the same for both files.
    Files are complete or absent: they are written under other names first.

    If the original sound is mixed in, the sounds are `<stem>-effect.*` and `<stem>-mix.*`.

    Args:
        source: the video as it was prepared before; None: it is prepared now.
        with_video: write the video; otherwise it only gives its original sound and its time code.
        take: append this number in any case; if it is in use, the next free one.
        overwrite: replace existing files instead.

    Raises:
        MediaError: the video cannot be read.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options, rate = options or ResultOptions(), variant.sample_rate_hz
    if source is None and video is not None:
        source = prepare_video(video, options, duration_s=duration_s)
    sounds = result_sounds(waveform, rate, options.sounds, source.original if source is not None else None)
    warnings = [*silence_warnings([waveform], rate), *sounds.warnings]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as drafts_folder:
        drafts: dict[str, Path] = {}
        for mark, sound in _named(sounds, options).items():
            ending = f"{mark}.{audio_format}"
            drafts[ending] = Path(drafts_folder) / f"sound{mark}"
            broadcast = _broadcast(source) if audio_format == "wav" else None
            written = write_audio(drafts[ending], sound, audio_format, broadcast=broadcast)
            warnings += written.warnings
        sound_count = len(drafts)
        if source is not None and with_video:
            draft = Path(drafts_folder) / "video"
            with source.path.open("rb") as file:
                result = mux_video(
                    file, sounds.of_video, draft, options=source.options, plan=source.plan, limits=LIMITS
                )
            warnings += result.warnings
            drafts[f".{result.format}"] = draft
        paths = _move(drafts, folder, stem, take=take, overwrite=overwrite)
    texts = tuple(dict.fromkeys(warning.text for warning in warnings))
    return WrittenFiles(tuple(paths[:sound_count]), next(iter(paths[sound_count:]), None), texts)


def _named(sounds: ResultSounds, options: ResultOptions) -> dict[str, Sound]:
    """Return the sounds that become audio files, by what their names have after the stem."""
    if sounds.mix is None:
        return {"": sounds.effect}
    named = {"-effect": sounds.effect, "-mix": sounds.mix}
    return named if options.audio_files == "both" else {f"-{options.audio_files}": named[f"-{options.audio_files}"]}


def _broadcast(source: PreparedVideo | None) -> BroadcastFacts | None:
    """Return what a WAV file says about its place on the source's clock; None: the source has no time code."""
    if source is None or source.plan.timecode is None:
        return None
    return BroadcastFacts(
        description=source.path.name,
        created=datetime.now().astimezone(),
        timecode=source.plan.timecode,
        frame_rate=Fraction(source.plan.frame_rate),
    )


def _move(drafts: dict[str, Path], folder: Path, stem: str, *, take: int | None, overwrite: bool) -> list[Path]:
    """Move drafts, by the ending of their names, to their final names."""
    for number in chain([None], count(2)) if take is None else count(take):
        name = stem if number is None else f"{stem}-{number}"
        paths = [folder / f"{name}{ending}" for ending in drafts]
        if overwrite or _reserve(paths):
            break
    try:
        return [draft.replace(path) for draft, path in zip(drafts.values(), paths, strict=True)]
    except BaseException:
        if not overwrite:
            for path in paths:
                path.unlink(missing_ok=True)
        raise


def _reserve(paths: list[Path]) -> bool:
    """Create all files or none; return whether none existed. Another process may look for a free name as well."""
    reserved: list[Path] = []
    for path in paths:
        try:
            path.open("x").close()
        except FileExistsError:
            for each in reserved:
                each.unlink()
            return False
        reserved.append(path)
    return True


def _read_video(path: Path, variant: Variant, start_s: float, duration_s: float, exact: bool) -> VideoFrames:
    clip_size, sync_size = variant.clip.frame_size, variant.sync.frame_size
    with path.open("rb") as file:
        if exact:
            return read_video_frames_exactly(
                file, duration_s=duration_s, clip_size=clip_size, sync_size=sync_size, limits=LIMITS
            ).video
        return read_video_frames(
            file, start_s=start_s, duration_s=duration_s, clip_size=clip_size, sync_size=sync_size, limits=LIMITS
        )


def _read_image(path: Path, variant: Variant, exact: bool) -> ImageFrame:
    size = variant.clip.frame_size
    with path.open("rb") as file:
        if exact:
            return read_image_exactly(file, clip_size=size, limits=LIMITS)
        try:
            return read_image(file, clip_size=size, limits=LIMITS)
        except MemoryError as exc:
            raise MediaTooLargeError(
                "The picture needs more memory than this machine has; give a smaller one."
            ) from exc
