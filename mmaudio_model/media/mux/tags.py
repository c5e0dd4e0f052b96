"""Tags and chapters of the source for the result. They are a stranger's text: kept as it is, but not of any length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mmaudio_model.media.mux.result_container import QUICKTIME, ResultContainer
from mmaudio_model.media.mux.timecode import Timecode

if TYPE_CHECKING:
    from av.container.core import Chapter

MAX_TAGS = 200
MAX_KEY_CHARACTERS = 200
MAX_VALUE_CHARACTERS = 20_000
MAX_CHAPTERS = 2000

# FFmpeg's muxer knows the languages of MOV by other codes of the same standard.
_LANGUAGES_OF_MOV = MappingProxyType(
    {
        "fre": "fra",
        "deu": "ger",
        "nld": "dut",
        "swe": "sve",
        "ell": "gre",
        "isl": "ice",
        "zho": "chi",
        "sqi": "alb",
        "rum": "ron",
        "cze": "ces",
        "slo": "slk",
        "mkd": "mac",
        "fas": "per",
        "msa": "may",
        "hye": "arm",
        "kat": "geo",
        "cym": "wel",
        "eus": "baq",
    }
)
# They describe the source's file or program and not what is in it; the muxer writes its own.
_OF_THE_FILE = frozenset(
    [
        "encoder",
        "major_brand",
        "minor_version",
        "compatible_brands",
        "duration",
        "timecode",
        "creator_encoder",
        "software",
        "uid",
        "generation_uid",
        "company_name",
        "product_name",
        "product_version",
        "product_version_num",
        "product_uid",
        "application_platform",
        "toolkit_version",
        "toolkit_version_num",
        "modification_date",
        "material_package_umid",
        "operational_pattern_ul",
        "width",
        "height",
        "framerate",
        "videodatarate",
        "videocodecid",
        "audiodatarate",
        "audiosamplerate",
        "audiosamplesize",
        "stereo",
        "audiocodecid",
        "filesize",
        "datasize",
        "videosize",
        "audiosize",
        "lasttimestamp",
        "lastkeyframetimestamp",
        "lastkeyframelocation",
        "canseektoend",
        "hasvideo",
        "hasaudio",
        "hasmetadata",
        "haskeyframes",
        "hascuepoints",
        "metadatacreator",
        "metadatadate",
        "wmfsdkversion",
        "wmfsdkneeded",
        "isvbr",
        "devicetemplate",
        "deviceconformancetemplate",
    ]
)
# MP4 counts from 1904 and FFmpeg from 1970: that is what it makes of a time that is not set.
_NO_TIME = ("1904-01-01T00:00:00", "1970-01-01T00:00:00")
_OF_THE_TRACK = frozenset(
    ["encoder", "duration", "vendor_id", "timecode", "rotate", "number_of_frames", "number_of_bytes", "bps"]
)
_STATISTICS = ("_statistics", "bps-", "duration-", "number_of_", "source_id")


def kept_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a file that its result gets."""
    return _bounded({key: value for key, value in metadata.items() if not _is_of_the_file(key, value)})


def track_tags(metadata: Mapping[str, str], target: ResultContainer) -> dict[str, str]:
    """Return the tags of a track that its copy gets: language, title, handler and the like."""
    kept = _bounded(
        {
            key: value
            for key, value in metadata.items()
            if key.lower() not in _OF_THE_TRACK and not key.lower().startswith(_STATISTICS)
        }
    )
    if target not in QUICKTIME:
        kept.pop("handler_name", None)
    if target is ResultContainer.MOV and "language" in kept:
        kept["language"] = _LANGUAGES_OF_MOV.get(kept["language"], kept["language"])
    return kept


def shortened(kept: Mapping[str, str], metadata: Mapping[str, str]) -> list[str]:
    """Return the names of the tags that are cut or left out since they are too long or too many."""
    wanted = {key: value for key, value in metadata.items() if not _is_of_the_file(key, value)}
    return [key[:MAX_KEY_CHARACTERS] for key, value in wanted.items() if kept.get(key) != value]


def lost_tags(wanted: Mapping[str, str], written: Mapping[str, str]) -> list[str]:
    """Return the names of tags that a file does not have; containers write names in their own way."""
    keys = {key.lower() for key in written}
    values = set(written.values())
    return [key for key, value in wanted.items() if key.lower() not in keys and value not in values]


def chapters_of_section(chapters: list[Chapter], start_s: Fraction, duration_s: Fraction) -> list[Chapter]:
    """Return the chapters within a section, cut to it and counted from its start, in milliseconds.

    Args:
        start_s: on the file's clock.
    """
    cut: list[Chapter] = []
    for chapter in chapters[:MAX_CHAPTERS]:
        base = chapter["time_base"] or Fraction(1, 1000)
        begin = max(chapter["start"] * base - start_s, Fraction(0))
        end = min(chapter["end"] * base - start_s, duration_s)
        if begin < end:
            cut.append(
                {
                    "id": len(cut) + 1,
                    "start": math.floor(begin * 1000),
                    "end": math.ceil(end * 1000),
                    "time_base": Fraction(1, 1000),
                    "metadata": _bounded(chapter["metadata"]),
                }
            )
    return cut


def timecode_of(container: Any, video: Any, rate: Fraction) -> Timecode | None:
    """Return the timecode of the first frame of a file, from its video, a timecode track, or the file's tags."""
    places = [video.metadata, *(stream.metadata for stream in container.streams), container.metadata]
    for metadata in places:
        text = metadata.get("timecode") or metadata.get("TIMECODE")
        if text is not None:
            return Timecode.parsed(text, rate)
    return None


def _is_of_the_file(key: str, value: str) -> bool:
    unset = key == "creation_time" and value.startswith(_NO_TIME)
    return unset or key.lower() in _OF_THE_FILE


def _bounded(metadata: Mapping[str, str]) -> dict[str, str]:
    fitting = ((key, value) for key, value in metadata.items() if 0 < len(key) <= MAX_KEY_CHARACTERS)
    return {key: value[:MAX_VALUE_CHARACTERS] for key, value in list(fitting)[:MAX_TAGS]}
