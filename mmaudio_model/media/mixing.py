"""The original sound of a video's section, and its mix with a new sound.

The mix keeps the original's sample rate and channels. A mono effect lies in front, left and right at -3 dB each: it has
the same power there as alone, so its loudness stays what it was. It goes to no other channel, and nothing is added to
the low-frequency channel. A stereo effect goes left and right as it is, or at half of each side into a mono original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from mmaudio_model.media.audio import with_layout
from mmaudio_model.media.audio_track import TrackSection, read_track_section
from mmaudio_model.media.channel_layout import MAX_CHANNELS, MINUS_3_DB, positions
from mmaudio_model.media.decoded_samples import MAX_RATE_HZ
from mmaudio_model.media.ducking import ducking_gain
from mmaudio_model.media.loudness import normalise_loudness, true_peak, true_peak_ceiling
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.waveform import Sound, resampled

# A sound that ends within the section by no more than this before its end gets no warning: it is about a few frames.
MISSING_S = 0.5


@dataclass(frozen=True)
class OriginalSound:
    """The sound of a section, as long as the section; None if there is nothing to mix in, and the warnings say why."""

    sound: Sound | None
    warnings: tuple[MediaWarning, ...] = ()


@dataclass(frozen=True)
class Mixed:
    """The mix, and whether the true-peak ceiling lowered it."""

    sound: Sound
    limited: bool
    warnings: tuple[MediaWarning, ...] = ()


def original_sound_bytes(duration_s: float) -> int:
    """Return the most bytes that the samples of a section can take: eight channels of float32 at 192 kHz."""
    return MAX_CHANNELS * 4 * math.ceil(duration_s * MAX_RATE_HZ)


def read_original_sound(file: BinaryIO, *, start_s: float, duration_s: float, limits: MediaLimits) -> OriginalSound:
    """Read the sound of a section of a video's default audio track, at its own sample rate and in its own channels.

    It begins exactly at `start_s` after the first presented frame. Where the track has no sound there is silence. If
    rate or channels change within the section, what comes later is converted to what came first.

    Raises:
        MediaInvalidError, MediaTooLargeError: see `probe.opened`; nothing is raised for the sound itself.
    """
    section = read_track_section(file, start_s=start_s, duration_s=duration_s, limits=limits)
    if section is None:
        text = "The video has no original sound to mix in."
        return OriginalSound(None, (MediaWarning(WarningCode.ORIGINAL_AUDIO_MISSING, text),))
    warnings = _missing(section, duration_s)
    if section.sound is not None and section.channels > MAX_CHANNELS:
        text = f"The original sound has {section.channels} channels: it was reduced to {section.sound.layout}."
        warnings.append(MediaWarning(WarningCode.AUDIO_LAYOUT_CHANGED, text))
    return OriginalSound(section.sound, tuple(warnings))


def mix(effect: Sound, original: Sound, *, gain_db: float, duck_db: float | None, loudness_lufs: float | None) -> Mixed:
    """Return the effect with a video's original sound, as long as the effect, below a true peak of -1 dBFS.

    A mix that would exceed the ceiling is lowered as a whole; that keeps its dynamics.

    Args:
        gain_db: of the original.
        duck_db: lower the original by this much while the effect sounds (see `ducking`); None or 0: do not.
        loudness_lufs: of the whole mix, unless the ceiling keeps it below; None leaves it as it comes.
    """
    rate, layout = original.sample_rate_hz, original.layout
    placed = _placed(resampled(effect, rate), layout)
    gain = np.full(placed.shape[1], 10 ** (gain_db / 20))
    if duck_db:
        gain *= ducking_gain(effect, rate, placed.shape[1], duck_db)
    waveform = placed.astype(np.float64)
    shared = min(original.samples, waveform.shape[1])
    waveform[:, :shared] += original.waveform[:, :shared] * gain[:shared]
    if loudness_lufs is not None:
        changed = normalise_loudness(waveform, rate, loudness_lufs, layout)
        text = "A true-peak ceiling of -1 dBFS keeps the mix below the requested loudness."
        warning = MediaWarning(WarningCode.LOUDNESS_LIMITED, text)
        sound = Sound(changed.waveform.astype(np.float32), rate, layout)
        return Mixed(sound, changed.limited, (warning,) if changed.limited else ())
    peak, ceiling = true_peak(waveform), true_peak_ceiling()
    if peak <= ceiling:
        return Mixed(Sound(waveform.astype(np.float32), rate, layout), limited=False)
    text = f"The mix was lowered by {20 * math.log10(peak / ceiling):.1f} dB, to a true peak of -1 dBFS."
    lowered = Sound((waveform * (ceiling / peak)).astype(np.float32), rate, layout)
    return Mixed(lowered, limited=True, warnings=(MediaWarning(WarningCode.AUDIO_LOWERED, text),))


def _placed(effect: Sound, layout: str) -> np.ndarray:
    """Return the effect in the channels of a layout, float32 (channels, samples)."""
    places = positions(layout)
    front = [places.index(side) for side in ("FL", "FR") if side in places]
    if effect.layout != "mono" or len(front) < 2:
        return with_layout(effect, layout).waveform
    placed = np.zeros((len(places), effect.samples), np.float32)
    placed[front] = MINUS_3_DB * effect.waveform
    return placed


def _missing(section: TrackSection, duration_s: float) -> list[MediaWarning]:
    missing_s = duration_s - section.given_s
    if section.faults and (missing_s > 0 or section.sound is None):
        what = f"{missing_s:.2f} s of {duration_s:.2f} s" if section.sound is not None else "all"
        text = f"The original sound is damaged: {what} of it could not be decoded ({section.faults[0]})."
        return [MediaWarning(WarningCode.ORIGINAL_AUDIO_DAMAGED, text)]
    if section.sound is None:
        return [MediaWarning(WarningCode.ORIGINAL_AUDIO_MISSING, "The original has no sound in this section.")]
    if missing_s > MISSING_S:
        text = f"The original has sound for {section.given_s:.2f} s of {duration_s:.2f} s; the rest of it is silent."
        return [MediaWarning(WarningCode.ORIGINAL_AUDIO_MISSING, text)]
    return []
