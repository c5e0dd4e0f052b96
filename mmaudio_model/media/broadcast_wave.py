"""Facts for the `bext` chunk of a Broadcast Wave file (EBU Tech 3285): where on the clock its sound begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.waveform import Sound

ORIGINATOR = "mmaudio-platform"
DAY_S = 24 * 3600
TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.,])(\d\d\d?)")
DROP_SEPARATORS = frozenset(";.,")
# Frames left out at the start of each minute but every tenth, by the timecode's frames per second.
DROPPED = {30: 2, 60: 4}


@dataclass(frozen=True)
class BroadcastFacts:
    """What the `bext` chunk says.

    Attributes:
        description: at most 256 characters of ASCII, longer ones are cut.
        created: date and time of the file.
        timecode: SMPTE timecode of the first sample, `HH:MM:SS:FF`, with `;` before the frames if frames are dropped.
        frame_rate: of the timecode, in frames per second.
    """

    description: str
    created: datetime
    timecode: str | None = None
    frame_rate: Fraction | None = None

    def metadata(self, sound: Sound) -> tuple[dict[str, str], tuple[MediaWarning, ...]]:
        """Return FFmpeg's keys of the chunk; a timecode that does not exist is left out, with a warning."""
        # EBU R98: A=algorithm, F=sample rate, W=word length, M=mode, T=text
        mode = {1: "mono", 2: "stereo"}.get(sound.channels, "multi")
        keys = {
            "description": _ascii(self.description, 256),
            "originator": ORIGINATOR,
            "origination_date": self.created.strftime("%Y-%m-%d"),
            "origination_time": self.created.strftime("%H:%M:%S"),
            "coding_history": f"A=PCM,F={sound.sample_rate_hz},W=24,M={mode},T={ORIGINATOR}\r\n",
        }
        if self.timecode is None or self.frame_rate is None:
            return keys, ()
        try:
            keys["time_reference"] = str(time_reference(self.timecode, self.frame_rate, sound.sample_rate_hz))
        except MediaInvalidError as exc:
            return keys, (MediaWarning(WarningCode.TIMECODE_INVALID, f"{exc} The sound file has no time reference."),)
        return keys, ()


def time_reference(timecode: str, frame_rate: Fraction, sample_rate_hz: int) -> int:
    """Return the samples from midnight to a SMPTE timecode, rounded to the nearest sample.

    Frames are counted: at 24000/1001 frames per second, 01:00:00:00 is 3603.6 s after midnight. Drop-frame timecode
    (`;` before the frames, at 30000/1001 and 60000/1001) leaves out numbers so that it follows the clock.

    Raises:
        MediaInvalidError: the timecode does not exist at this frame rate.
    """
    found = TIMECODE.fullmatch(timecode)
    if found is None or frame_rate <= 0:
        raise MediaInvalidError(f"Got the timecode {timecode!r} at {frame_rate} frames/s; it must be HH:MM:SS:FF.")
    hours, minutes, seconds, frames = (int(found[group]) for group in (1, 2, 3, 5))
    # Rates such as 23.976 or 29.97 are declared as fractions of 1001; the timecode counts to the next whole number.
    per_second = round(frame_rate)
    if hours > 23 or minutes > 59 or seconds > 59 or frames >= per_second:
        raise MediaInvalidError(f"The timecode {timecode!r} does not exist at {float(frame_rate):.3f} frames/s.")
    whole_minutes = hours * 60 + minutes
    number = (whole_minutes * 60 + seconds) * per_second + frames
    if found[4] in DROP_SEPARATORS:
        dropped = DROPPED.get(per_second)
        if dropped is None or frame_rate.denominator == 1:
            raise MediaInvalidError(
                f"The timecode {timecode!r} drops frames; that exists at 29.97 and 59.94 frames/s only, not at "
                f"{float(frame_rate):.3f}."
            )
        if seconds == 0 and frames < dropped and minutes % 10:
            raise MediaInvalidError(f"The timecode {timecode!r} is one of those that drop-frame counting leaves out.")
        number -= dropped * (whole_minutes - whole_minutes // 10)
    return round(number / frame_rate * sample_rate_hz)


def _ascii(text: str, length: int) -> str:
    return text.encode("ascii", "replace").decode()[:length]
