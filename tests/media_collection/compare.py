"""What differs between a source and its result, and whether a warning names it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tests.media_collection.facts import Facts, OtherTrack

MP4_FAMILY = "mov,mp4,m4a,3gp,3g2,mj2"
SAME_LOOK = 12.0
"""Levels; the mean of a part of a picture that is encoded again at a good quality differs by less."""
KEYFRAME_TOLERANCE_S = Fraction(2, 100)
SAME_TIME_S = Fraction(11, 10_000)
"""MKV, WebM and FLV count milliseconds."""
REORDERED = 4
"""The most frames after the end that a copy needs for those before it."""
NAMED_BY = {
    "codec": r"re-encoded",
    "tag": r"tag",
    "size": r"size|side|pixels",
    "sar": r"aspect",
    "pixel format": r"bit|4:[0-4]|chroma|pixel format|grey|RGB",
    "alpha": r"transparen|alpha",
    "colour": r"colou?r|primaries|transfer|HDR|tone|RGB",
    "range": r"range|RGB",
    "field order": r"interlac|field",
    "rotation": r"rotat|turn|mirror",
    "frame rate": r"frame rate",
    "mastering display": r"HDR|mastering|light",
    "Dolby Vision": r"Dolby",
    "360 degrees": r"360|spherical|equirect",
    "timecode": r"timecode",
    "audio": r"audio|sound",
    "subtitle": r"subtitle|text",
    "data": r"data|telemetry|metadata",
    "attachment": r"attachment|font",
    "cover": r"cover",
    "video": r"video track|further|other",
    "chapters": r"chapter",
    "tags": r"\btags?\b",
    "language": r"language",
    "default": r"default",
    "look": r"transparen|colou?r|tone",
    "sound": r"silen",
    "frames": r"frames? (?:is|are|was|were|that)|skipped|cut off|edit list",
    "times": r"frame rate|times",
    "end": r"longer|after the end",
    "complaints": r"damaged",
}
"""The words of the warning that names a difference."""


@dataclass(frozen=True)
class Difference:
    """A property that is another one in the result."""

    what: str
    source: object
    result: object

    def named(self, warnings: Sequence[str]) -> bool:
        """Return whether one of the sentences speaks of it."""
        return any(re.search(NAMED_BY[self.what], sentence, re.IGNORECASE) for sentence in warnings)


def differences(
    source: Facts, result: Facts, *, start_s: Fraction, duration_s: Fraction, reencoded: bool
) -> list[Difference]:
    """Compare a section with the result that was made of it; the new sound is not a difference."""
    same_family = source.container == result.container == MP4_FAMILY
    pairs: list[tuple[str, object, object]] = [
        ("codec", source.codec, result.codec),
        ("size", source.size, result.size),
        ("sar", source.sar, result.sar),
        ("colour", source.colour, result.colour),
        ("range", source.full_range, result.full_range),
        ("rotation", source.matrix, result.matrix),
    ]
    if same_family and not reencoded and (source.tag, result.tag) != ("hev1", "hvc1"):  # QuickTime refuses hev1
        pairs.append(("tag", source.tag, result.tag))
    if result.interlaced is not None or not (source.interlaced_frames and result.interlaced_frames):
        pairs.append(("field order", source.interlaced, result.interlaced))
    found = [Difference(*pair) for pair in pairs if pair[1] != pair[2]]
    if source.transparent and not result.transparent:
        found.append(Difference("alpha", source.pix_fmt, result.pix_fmt))
    if _plain(source.pix_fmt) != _plain(result.pix_fmt):
        found.append(Difference("pixel format", source.pix_fmt, result.pix_fmt))
    found += [
        Difference(name, True, False)
        for name, had, has in (
            ("mastering display", bool(source.hdr), bool(result.hdr)),
            ("Dolby Vision", "Dolby Vision" in source.records, "Dolby Vision" in result.records),
            ("360 degrees", "360 degrees" in source.records, "360 degrees" in result.records),
        )
        if had and not has
    ]
    if source.timecode is not None and result.timecode not in _timecodes(source, start_s):
        found.append(Difference("timecode", source.timecode, result.timecode))
    found += _look(source, result)
    found += _tracks(source, result)
    found += _chapters(source, result, float(start_s), float(start_s + duration_s))
    missing = {name for name, _ in source.tags} - {name for name, _ in result.tags}
    if missing:
        found.append(Difference("tags", sorted(missing), None))
    return [*found, *shown_differences(source, result, start_s, duration_s, reencoded=reencoded)]


def shown_differences(
    source: Facts, result: Facts, start_s: Fraction, duration_s: Fraction, *, reencoded: bool
) -> list[Difference]:
    """Compare which frames are shown when."""
    starts = [start_s]
    if not reencoded:  # a copy may begin at a key frame that comes a moment earlier or later
        starts += [time for time, _ in source.shown if abs(time - start_s) <= KEYFRAME_TOLERANCE_S]
    results = [_shown_differences(source, result, start, duration_s) for start in starts]
    found = next((one for one in results if not one), results[0])
    frame_s = max(1 / Fraction(result.frame_rate or 25), 1 / Fraction(source.frame_rate or 25))
    # Only an edit list can hide the frames after the end that others depend on.
    most = duration_s + (frame_s if result.container == MP4_FAMILY else REORDERED * frame_s)
    if result.shown and result.shown[-1][0] >= most:
        found.append(Difference("end", float(duration_s), float(result.shown[-1][0])))
    return found


def _shown_differences(source: Facts, result: Facts, start_s: Fraction, duration_s: Fraction) -> list[Difference]:
    # The last one may be as short as the part of it that is asked for; more frames may follow.
    almost = duration_s - Fraction(1, 500)
    expected = [one for one in section(source.shown, start_s, duration_s) if one[0] < almost]
    got = [one for one in result.shown if one[0] < almost]
    if [number for _, number in expected] != [number for _, number in got]:
        return [Difference("frames", _shown(expected), _shown(got))]
    late = max((abs(one[0] - other[0]) for one, other in zip(expected, got, strict=True)), default=Fraction(0))
    if late > SAME_TIME_S:
        return [Difference("times", _shown(expected), _shown(got))]
    return []


def section(
    shown: Sequence[tuple[Fraction, int]], start_s: Fraction, duration_s: Fraction
) -> list[tuple[Fraction, int]]:
    """Return what is shown in a section, with times from its start; the first frame is shown from the start on."""
    before = [(Fraction(0), number) for time, number in shown if time <= start_s][-1:]
    return before + [(time - start_s, number) for time, number in shown if start_s < time < start_s + duration_s]


def _shown(frames: Sequence[tuple[Fraction, int]]) -> str:
    return " ".join(f"{number}@{float(time):.3f}" for time, number in frames)


def _plain(pix_fmt: str) -> str:
    return pix_fmt.replace("yuva", "yuv").replace("gbrap", "gbrp").removesuffix("le").removesuffix("be")


def _timecodes(source: Facts, start_s: Fraction) -> set[str]:
    """Return the timecodes of the frame at a start, and of the one after it, at which a copy may begin."""
    assert source.timecode is not None
    rate = Fraction(source.frame_rate or 25)
    whole_rate = round(rate)
    hours, minutes, seconds, frames = (int(part) for part in re.split("[:;]", source.timecode))
    first = ((hours * 60 + minutes) * 60 + seconds) * whole_rate + frames + int(start_s * rate)
    return {_written(at, whole_rate) for at in (first, first + 1)}


def _written(frame: int, rate: int) -> str:
    seconds = frame // rate
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frame % rate:02}"


def _look(source: Facts, result: Facts) -> list[Difference]:
    """Compare the colours of the result's first picture with the same one of the source."""
    if not result.shown:
        return []
    number = result.shown[0][1]
    same = next((look for (_, one), look in zip(source.shown, source.looks, strict=True) if one == number), None)
    if same is None:
        return []  # told as frames that differ
    off = float(np.abs(same - result.looks[0]).max())
    return [Difference("look", "the same colours", f"{off:.0f} levels off")] if off > SAME_LOOK else []


def _tracks(source: Facts, result: Facts) -> list[Difference]:
    found = []
    default = next(
        (one for one in source.tracks if one.kind == "audio" and one.default),
        next((one for one in source.tracks if one.kind == "audio"), None),
    )
    kept = list(result.tracks)
    new = next((one for one in kept if one.kind == "audio"), None)
    if new is None or not new.default:
        found.append(Difference("audio", "the new sound is the first and default track", new))
    elif new is not None:
        kept.remove(new)
    dropped = False
    for track in source.tracks:
        if track is default and not dropped:  # the new sound takes its place
            dropped = True
            continue
        same = next((one for one in kept if _same(track, one)), None)
        if same is None:
            found.append(Difference(track.kind, track, None))
            continue
        kept.remove(same)
        if track.language != same.language:
            found.append(Difference("language", track, same))
    return found


def _same(track: OtherTrack, other: OtherTrack) -> bool:
    return track.kind == other.kind and (track.what == other.what or track.kind in {"cover", "subtitle"})


def _chapters(source: Facts, result: Facts, begin: float, end: float) -> list[Difference]:
    expected = [
        (round(max(first - begin, 0), 2), title)
        for first, last, title in source.chapters
        if last > begin and first < end
    ]
    got = [(first, title) for first, _, title in result.chapters]
    same = len(got) == len(expected) and all(
        abs(one[0] - other[0]) < 0.05 and one[1] == other[1] for one, other in zip(expected, got, strict=True)
    )
    return [] if same else [Difference("chapters", expected, got)]
