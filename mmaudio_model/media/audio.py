"""Writes sound files with FFmpeg, under a temporary name that is replaced when the file is complete."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.media.broadcast_wave import BroadcastFacts
from mmaudio_model.media.channel_layout import layout_matrix, positions, smallest_holding
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.waveform import Sound, resampled

__all__ = [
    "AUDIO_FORMATS",
    "AudioFormat",
    "FittedSound",
    "Sound",
    "WrittenAudio",
    "add_audio_stream",
    "audio_frames",
    "fitted_sound",
    "lowered_to_full_scale",
    "resampled",
    "with_channels",
    "with_layout",
    "write_audio",
]

CHUNK_SAMPLES = 16_384


@dataclass(frozen=True)
class AudioFormat:
    """Codec and container of a format.

    Attributes:
        bit_rates: bits per second of mono, stereo, and for every channel of more; None: the codec is lossless.
        rates: the sample rates in Hz that the codec has, rising (None: any).
        layouts: the channel layouts that players know in this format (None: any of up to eight channels).
    """

    container: str
    codec: str
    sample_format: str
    content_type: str
    bit_rates: tuple[int, int, int] | None = None
    rates: tuple[int, ...] | None = None
    layouts: tuple[str, ...] | None = None


MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
# The layouts that the formats can name themselves; other ones would need a description that players do not read.
OPUS_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")

AUDIO_FORMATS = MappingProxyType(
    {
        # s32 makes FFmpeg write 24-bit FLAC, which is lossless for practical purposes.
        "flac": AudioFormat("flac", "flac", "s32", "audio/flac"),
        "wav": AudioFormat("wav", "pcm_s24le", "s32", "audio/wav"),
        "mp3": AudioFormat(
            "mp3", "libmp3lame", "fltp", "audio/mpeg", (192_000, 256_000, 0), MP3_RATES, ("mono", "stereo")
        ),
        # Opus always plays at 48 kHz, whatever it was given.
        "opus": AudioFormat("ogg", "libopus", "flt", "audio/ogg", (128_000, 192_000, 64_000), (48_000,), OPUS_LAYOUTS),
        "m4a": AudioFormat("ipod", "aac", "fltp", "audio/mp4", (192_000, 256_000, 96_000), AAC_RATES, AAC_LAYOUTS),
    }
)


@dataclass(frozen=True)
class FittedSound:
    """A sound as its codec can hold it, and what had to change for that."""

    sound: Sound
    warnings: tuple[MediaWarning, ...] = ()


@dataclass(frozen=True)
class WrittenAudio:
    """Facts of a written file: sample rate, channel layout, and what a user should know about it."""

    sample_rate_hz: int
    layout: str
    warnings: tuple[MediaWarning, ...] = ()


def write_audio(
    path: Path, sound: Sound, audio_format: str, *, broadcast: BroadcastFacts | None = None
) -> WrittenAudio:
    """Write a sound to `path`, at the sample rate and in the layout that the format can hold.

    Values beyond [-1, 1] are clipped, with a warning.

    Args:
        broadcast: written into the `bext` chunk of a WAV file; other formats have no place for it.

    Raises:
        RequestInvalidError: the format is unknown.
    """
    if audio_format not in AUDIO_FORMATS:
        raise RequestInvalidError(f"Got audio format {audio_format!r}; there are {', '.join(AUDIO_FORMATS)}.")
    chosen = AUDIO_FORMATS[audio_format]
    fitted = fitted_sound(sound, chosen)
    options: dict[str, str] = {}
    metadata: dict[str, str] = {}
    warnings = fitted.warnings
    if chosen.container == "ipod":
        # the edit list then ends with the last sample, and not with a millisecond
        options["movie_timescale"] = str(fitted.sound.sample_rate_hz)
    if audio_format == "wav":
        options["rf64"] = "auto"  # the sizes of a plain WAV end at 4 GiB
        if broadcast is not None:
            options["write_bext"] = "1"
            metadata, unusable = broadcast.metadata(fitted.sound)
            warnings += unusable
    draft = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(draft), "w", format=chosen.container, options=options) as container:
            container.metadata.update(metadata)
            stream = add_audio_stream(container, chosen, fitted.sound)
            for frame in audio_frames(fitted.sound):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return WrittenAudio(fitted.sound.sample_rate_hz, fitted.sound.layout, warnings)


def fitted_sound(sound: Sound, chosen: AudioFormat) -> FittedSound:
    """Return the sound in a layout and at a sample rate that the codec has, and within full scale.

    The rate is the next higher one, or else the highest. A layout that the codec lacks is put into a larger one with
    silent channels, or else downmixed.
    """
    warnings: list[MediaWarning] = []
    fitted = _clipped(sound, warnings)
    if chosen.layouts is not None and sound.layout not in chosen.layouts:
        fitted = _in_known_layout(fitted, chosen, chosen.layouts, warnings)
    if chosen.rates is not None and sound.sample_rate_hz not in chosen.rates:
        rate = next((known for known in chosen.rates if known >= sound.sample_rate_hz), chosen.rates[-1])
        if rate < sound.sample_rate_hz:
            text = f"{_name(chosen)} holds at most {rate} Hz: the sound was resampled from {sound.sample_rate_hz} Hz."
            warnings.append(MediaWarning(WarningCode.AUDIO_RATE_LOWERED, text))
        fitted = resampled(fitted, rate)
    fitted, lowered = lowered_to_full_scale(fitted)
    return FittedSound(fitted, (*warnings, *lowered))


def lowered_to_full_scale(sound: Sound) -> tuple[Sound, tuple[MediaWarning, ...]]:
    """Return the sound lowered so that no sample is beyond full scale, as resampling and downmixing may leave it."""
    peak = _peak(sound)
    if peak <= 1.0:
        return sound, ()
    lowered = np.clip(sound.waveform / np.float32(peak), -1.0, 1.0)
    text = (
        f"Converted to {sound.layout} at {sound.sample_rate_hz} Hz, the sound peaks above full scale: "
        f"it was lowered by {20 * math.log10(peak):.2f} dB."
    )
    lowered_sound = Sound(lowered, sound.sample_rate_hz, sound.layout)
    return lowered_sound, (MediaWarning(WarningCode.AUDIO_LOWERED, text),)


def with_channels(sound: Sound, channels: int) -> Sound:
    """Return the sound in mono (1) or stereo (2); mono plays on both sides at its own level.

    Raises:
        ValueError: another number of channels.
    """
    if channels not in {1, 2}:
        raise ValueError(f"Got {channels} channels; a sound can be given 1 or 2.")
    return with_layout(sound, ("mono", "stereo")[channels - 1])


def with_layout(sound: Sound, layout: str) -> Sound:
    """Return the sound in another channel layout, downmixed after ITU-R BS.775 where it lacks channels.

    Samples may come out beyond 1.0.
    """
    if layout == sound.layout:
        return sound
    return Sound(layout_matrix(sound.layout, layout) @ sound.waveform, sound.sample_rate_hz, layout)


def add_audio_stream(container: Any, chosen: AudioFormat, sound: Sound) -> AudioStream:
    """Add a stream to an output container for a sound that fits its codec (see `fitted_sound`)."""
    options = {"mapping_family": "1"} if chosen.codec == "libopus" and sound.channels > 2 else {}
    stream: AudioStream = container.add_stream(
        chosen.codec, rate=sound.sample_rate_hz, layout=sound.layout, format=chosen.sample_format, options=options
    )
    if chosen.bit_rates is not None:
        mono, stereo, each = chosen.bit_rates
        stream.bit_rate = (mono, stereo)[sound.channels - 1] if sound.channels <= 2 else each * sound.channels
    return stream


def audio_frames(sound: Sound) -> Iterator[AudioFrame]:
    """Cut a sound into frames with time stamps; values beyond [-1, 1] are clipped."""
    for start in range(0, sound.samples, CHUNK_SAMPLES):
        part = np.clip(sound.waveform[:, start : start + CHUNK_SAMPLES], -1.0, 1.0).astype(np.float32)
        # interleaved: PyAV cannot fill frames of eight planes
        interleaved = np.ascontiguousarray(part.T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(interleaved, format="flt", layout=sound.layout)
        frame.sample_rate = sound.sample_rate_hz
        frame.pts = start
        yield frame


def _in_known_layout(
    sound: Sound, chosen: AudioFormat, layouts: tuple[str, ...], warnings: list[MediaWarning]
) -> Sound:
    holding = smallest_holding(sound.layout, layouts)
    if holding is None:
        largest = max(layouts, key=lambda layout: len(positions(layout)))
        text = f"{_name(chosen)} cannot hold the sound's {sound.layout} channels: it was downmixed to {largest}."
        warnings.append(MediaWarning(WarningCode.AUDIO_LAYOUT_CHANGED, text))
        return with_layout(sound, largest)
    if len(positions(holding)) > sound.channels:
        text = f"{_name(chosen)} has no layout {sound.layout}: the sound was written as {holding}."
        warnings.append(MediaWarning(WarningCode.AUDIO_LAYOUT_CHANGED, text))
    return with_layout(sound, holding)


def _clipped(sound: Sound, warnings: list[MediaWarning]) -> Sound:
    peak = _peak(sound)
    if peak <= 1.0:
        return sound
    count = int((np.abs(sound.waveform) > 1.0).sum())
    text = (
        f"{count} sample{'s' if count > 1 else ''} beyond full scale (by up to {20 * math.log10(peak):.1f} dB) "
        "were clipped; ask for a lower loudness."
    )
    warnings.append(MediaWarning(WarningCode.AUDIO_CLIPPED, text))
    return Sound(np.clip(sound.waveform, -1.0, 1.0), sound.sample_rate_hz, sound.layout)


def _peak(sound: Sound) -> float:
    return float(np.abs(sound.waveform).max(initial=0.0))


def _name(chosen: AudioFormat) -> str:
    return {"libmp3lame": "MP3", "libopus": "Opus", "aac": "AAC"}.get(chosen.codec, chosen.codec)
