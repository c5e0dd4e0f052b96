"""Timecodes of broadcast and film, HH:MM:SS:FF, and HH:MM:SS;FF where numbers are dropped to keep up with the clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_FORM = re.compile(r"^(\d{2}):(\d{2}):(\d{2})([:;.])(\d{2,3})$")
_SECONDS_A_DAY = 86_400
# Drop-frame counts 30 frames a second where there are 30000/1001: two numbers are left out in every minute of ten
# but the first.
_DROPPED_PER_30 = 2


@dataclass(frozen=True)
class Timecode:
    """A count of frames since midnight at a nominal rate."""

    frames: int
    rate: int
    """Whole frames a second that the numbers go up to."""
    drop: bool

    @staticmethod
    def parsed(text: str, frame_rate: Fraction) -> Timecode | None:
        """Return the timecode that is written in a tag, or None if it is not one at this frame rate."""
        found = _FORM.match(text.strip())
        rate = round(frame_rate)
        if found is None or rate < 1:
            return None
        hours, minutes, seconds, number = (int(found[part]) for part in (1, 2, 3, 5))
        if hours > 23 or minutes > 59 or seconds > 59 or number >= rate:
            return None
        drop = found[4] != ":" and rate % 30 == 0
        frames = ((hours * 60 + minutes) * 60 + seconds) * rate + number
        if drop:
            total = hours * 60 + minutes
            frames -= _dropped(rate) * (total - total // 10)
        return Timecode(frames, rate, drop)

    def advanced(self, frames: int) -> Timecode:
        """Return the timecode so many frames later; it starts again at midnight."""
        day = _SECONDS_A_DAY * self.rate
        if self.drop:
            day -= _dropped(self.rate) * (24 * 60 - 24 * 6)
        return Timecode((self.frames + frames) % day, self.rate, self.drop)

    def __str__(self) -> str:
        count = self.frames
        if self.drop:
            dropped, minute = _dropped(self.rate), 60 * self.rate
            tens, rest = divmod(count, 10 * minute - 9 * dropped)
            count += 9 * dropped * tens + dropped * max(0, (rest - dropped) // (minute - dropped))
        seconds, number = divmod(count, self.rate)
        hours, minutes = seconds // 3600, seconds // 60 % 60
        mark = ";" if self.drop else ":"
        return f"{hours:02}:{minutes:02}:{seconds % 60:02}{mark}{number:02}"


def _dropped(rate: int) -> int:
    return _DROPPED_PER_30 * rate // 30
