"""From what the model made to the sounds that are delivered: channels, sample rate, loudness, the original sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmaudio_model.media.audio import Sound, lowered_to_full_scale, resampled, with_channels
from mmaudio_model.media.loudness import Silence, normalise_loudness, silence_of
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mixing import mix

LIMITED = "A true-peak ceiling of -1 dBFS keeps the sound below the requested loudness."


@dataclass(frozen=True)
class SoundOptions:
    """What is asked of the delivered sounds.

    Attributes:
        channels: of the new sound, 1 or 2; a mix has those of the original sound.
        sample_rate_hz: None: the model's; of a mix, the original sound's.
        loudness_lufs: of the new sound, and of a mix as a whole; None: unchanged.
        mixes: the original sound is mixed in.
        original_gain_db, duck_db: see `media.mixing.mix`.
    """

    channels: int = 1
    sample_rate_hz: int | None = None
    loudness_lufs: float | None = None
    mixes: bool = False
    original_gain_db: float = 0.0
    duck_db: float | None = None


@dataclass(frozen=True)
class ResultSounds:
    """The sounds of one take: the new one alone, and with the original sound if that is asked for."""

    effect: Sound
    mix: Sound | None = None
    warnings: tuple[MediaWarning, ...] = ()

    @property
    def of_video(self) -> Sound:
        """The sound of the delivered video."""
        return self.effect if self.mix is None else self.mix


def result_sounds(
    waveform: np.ndarray, model_rate_hz: int, options: SoundOptions, original: Sound | None
) -> ResultSounds:
    """Return the sounds to deliver for a waveform of the model, float32 (samples,).

    Args:
        original: the source's own sound in the section; None: it has none, so the mix is the new sound alone.
    """
    warnings: list[MediaWarning] = []
    made = Sound.mono(waveform, model_rate_hz)
    effect = _at_loudness(_at_rate(with_channels(made, options.channels), options, warnings), options, warnings)
    if not options.mixes:
        return ResultSounds(effect, None, tuple(warnings))
    if original is None:
        return ResultSounds(effect, effect, tuple(warnings))
    # In mono: its place in the mix is the mix's to decide. One that will not be delivered warns of nothing.
    mixed = mix(
        _at_loudness(made, options, []),
        original,
        gain_db=options.original_gain_db,
        duck_db=options.duck_db,
        loudness_lufs=options.loudness_lufs,
    )
    warnings += mixed.warnings
    return ResultSounds(effect, _at_rate(mixed.sound, options, warnings), tuple(warnings))


def silence_warnings(waveforms: Sequence[np.ndarray], sample_rate_hz: int) -> tuple[MediaWarning, ...]:
    """Return which of the takes are silent or nearly so, one warning for all that are equally quiet."""
    quiet: dict[Silence, list[int]] = {}
    for take, waveform in enumerate(waveforms, 1):
        silence = silence_of(waveform, sample_rate_hz)
        if silence is not None:
            quiet.setdefault(silence, []).append(take)
    only = len(waveforms) == 1
    return tuple(
        MediaWarning(
            WarningCode(silence),
            f"{'The sound' if only else 'Take ' + ', '.join(map(str, takes))} is "
            f"{'silent' if silence is Silence.SILENT else 'nearly silent'}; try another seed or prompt.",
        )
        for silence, takes in quiet.items()
    )


def _at_rate(sound: Sound, options: SoundOptions, warnings: list[MediaWarning]) -> Sound:
    """Return the sound at the requested sample rate; one within full scale stays within it."""
    if options.sample_rate_hz in {None, sound.sample_rate_hz}:
        return sound
    assert options.sample_rate_hz is not None
    loud = float(np.abs(sound.waveform).max(initial=0.0)) > 1.0
    converted = resampled(sound, options.sample_rate_hz)
    if loud:
        return converted  # it is clipped when it is written, which is said then
    converted, lowered = lowered_to_full_scale(converted)
    warnings += lowered
    return converted


def _at_loudness(sound: Sound, options: SoundOptions, warnings: list[MediaWarning]) -> Sound:
    if options.loudness_lufs is None:
        return sound
    result = normalise_loudness(sound.waveform, sound.sample_rate_hz, options.loudness_lufs, sound.layout)
    if result.limited:
        warnings.append(MediaWarning(WarningCode.LOUDNESS_LIMITED, LIMITED))
    return Sound(result.waveform, sound.sample_rate_hz, sound.layout)
