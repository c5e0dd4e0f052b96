"""Channel layouts, by FFmpeg's names: which channel lies where, and the matrix from one layout to another.

Downmixing follows ITU-R BS.775: the centre and the surround channels go to the front at -3 dB, the low-frequency
channel is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from av.audio.layout import AudioLayout

MAX_CHANNELS = 8
MINUS_3_DB = 0.5**0.5
LOW_FREQUENCY = frozenset({"LFE", "LFE2"})
# What a track without a layout is taken for, by its number of channels.
DEFAULT_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")

Gains = tuple[tuple[str, float], ...]
_FRONT: Gains = (("FL", MINUS_3_DB), ("FR", MINUS_3_DB))
# Where a channel goes that the new layout lacks: the first choice whose channels it has, or the last choice's choices.
_ELSEWHERE: dict[str, tuple[Gains, ...]] = {
    "FC": (_FRONT,),
    "BL": ((("SL", 1.0),), (("FL", MINUS_3_DB),)),
    "BR": ((("SR", 1.0),), (("FR", MINUS_3_DB),)),
    "SL": ((("BL", 1.0),), (("FL", MINUS_3_DB),)),
    "SR": ((("BR", 1.0),), (("FR", MINUS_3_DB),)),
    "BC": (
        (("BL", MINUS_3_DB), ("BR", MINUS_3_DB)),
        (("SL", MINUS_3_DB), ("SR", MINUS_3_DB)),
        (("FL", 0.5), ("FR", 0.5)),
    ),
    "FLC": ((("FL", MINUS_3_DB),),),
    "FRC": ((("FR", MINUS_3_DB),),),
    "WL": ((("FL", MINUS_3_DB),),),
    "WR": ((("FR", MINUS_3_DB),),),
    "TFL": ((("FL", MINUS_3_DB),),),
    "TFC": ((("FC", MINUS_3_DB),),),
    "TFR": ((("FR", MINUS_3_DB),),),
    "TSL": ((("SL", MINUS_3_DB),),),
    "TSR": ((("SR", MINUS_3_DB),),),
    "TBL": ((("BL", MINUS_3_DB),),),
    "TBC": ((("BC", MINUS_3_DB),),),
    "TBR": ((("BR", MINUS_3_DB),),),
    "TC": ((("FL", 0.5), ("FR", 0.5)),),
    "BFL": ((("FL", MINUS_3_DB),),),
    "BFC": ((("FC", MINUS_3_DB),),),
    "BFR": ((("FR", MINUS_3_DB),),),
    "DL": ((("FL", 1.0),),),
    "DR": ((("FR", 1.0),),),
    "LFE2": ((("LFE", MINUS_3_DB),),),
}


@cache
def positions(layout: str) -> tuple[str, ...]:
    """Return the channels of a layout in their order, as FL, FR, FC, LFE, BL, BR, ...

    Raises:
        ValueError: FFmpeg knows no such layout.
    """
    return tuple(channel.name for channel in AudioLayout(layout).channels)


@cache
def layout_matrix(source: str, target: str) -> np.ndarray:
    """Return the gains, float32 (target channels, source channels), that turn one layout into another.

    Mono goes to the centre where the target has one, and to both sides of stereo at its own level.
    """
    into, channels = positions(target), positions(source)
    if target == "mono":
        averaged: np.ndarray = layout_matrix(source, "stereo").mean(axis=0, keepdims=True)
        return averaged
    if source == "mono" and "FC" not in into:
        return np.array([[float(place in {"FL", "FR"})] for place in into], dtype=np.float32)
    matrix = np.zeros((len(into), len(channels)), dtype=np.float32)
    for column, channel in enumerate(channels):
        for place, gain in _destinations(channel, into, channels):
            matrix[into.index(place), column] += gain
    matrix.setflags(write=False)
    return matrix


def smallest_holding(layout: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed layout with the fewest channels that keeps all channels apart; None if none does."""
    holding = [
        target
        for target in allowed
        if target != "mono"
        and ((gains := layout_matrix(layout, target) != 0).sum(axis=1) <= 1).all()
        and gains.any(axis=0).all()
    ]
    return min(holding, key=lambda target: len(positions(target)), default=None)


def _destinations(channel: str, into: tuple[str, ...], source: tuple[str, ...]) -> Gains:
    if channel in into:
        return ((channel, 1.0),)
    if channel not in _ELSEWHERE:  # low frequencies
        return ()
    choices = _ELSEWHERE[channel]
    chosen = next((choice for choice in choices if all(place in into for place, _ in choice)), None)
    if chosen is None:
        return tuple(
            (place, gain * further)
            for between, gain in choices[-1]
            for place, further in _destinations(between, into, source)
        )
    # side and back channels that share a place are added at -3 dB
    return tuple((place, MINUS_3_DB if gain == 1.0 and place in source else gain) for place, gain in chosen)
