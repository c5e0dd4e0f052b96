"""Which packets of a section are copied, and when they are shown and decoded in the result."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import pytest

from mmaudio_model.media.mux.copying import PacketFacts, Section, placed
from mmaudio_model.media.mux.result_container import ResultContainer

FRAME = 40
MP4, MKV, WEBM = ResultContainer.MP4, ResultContainer.MKV, ResultContainer.WEBM


def packets(order: Sequence[int], *, dts: bool = True, disposable: Sequence[int] = ()) -> list[PacketFacts]:
    """Return packets of frames of 40 units, numbered in the order of presentation, in the given decoding order."""
    return [
        PacketFacts(
            pts=number * FRAME,
            dts=(index - 2) * FRAME if dts else None,
            duration=FRAME,
            is_keyframe=index == 0,
            is_disposable=number in disposable,
        )
        for index, number in enumerate(order)
    ]


def shown(section: Section | str) -> list[tuple[int, int]]:
    """Return (presentation, decoding) times of the packets that are written."""
    assert isinstance(section, Section)
    return [(times.pts, times.dts) for times in section.times if times is not None]


def place(
    facts: Sequence[PacketFacts], frames: float | Fraction, target: ResultContainer, *, ordered: bool = False
) -> Section | str:
    return placed(facts, Fraction(frames) * FRAME, FRAME, ordered=ordered, target=target)


@pytest.mark.parametrize("target", [MP4, MKV])
@pytest.mark.parametrize("dts", [True, False])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [0, 3, 1, 2, 6, 4, 5], [0, 4, 2, 1, 3, 8, 6, 5, 7]])
def test_decoding_times_rise_and_are_never_after_the_presentation(
    target: ResultContainer, dts: bool, order: list[int]
) -> None:
    for frames in range(1, len(order) + 1):
        times = shown(place(packets(order, dts=dts), frames, target))

        assert all(before[1] < after[1] for before, after in pairwise(times))
        assert all(dts <= pts for pts, dts in times)
        first_frames = {number * FRAME for number in range(frames)}
        assert first_frames <= {pts for pts, _ in times}


def test_the_copy_is_cut_after_the_last_packet_that_a_shown_frame_needs() -> None:
    section = place(packets([0, 3, 1, 2, 6, 4, 5]), 3, MP4)

    assert [pts for pts, _ in shown(section)] == [0, 3 * FRAME, FRAME, 2 * FRAME]


def test_where_nothing_can_be_hidden_needed_frames_after_the_end_are_shown_for_one_unit() -> None:
    section = place(packets([0, 4, 2, 1, 3]), 2, MKV)

    assert [pts for pts, _ in shown(section)] == [0, 2 * FRAME - 1, 2 * FRAME - 2, FRAME]
    assert isinstance(section, Section)
    assert max(times.pts + times.duration for times in section.times if times) == 2 * FRAME


def test_frames_after_the_end_that_none_needs_are_left_out() -> None:
    section = place(packets([0, 3, 2, 1], disposable=[2]), 2, MKV)

    assert isinstance(section, Section)
    assert [times is None for times in section.times] == [False, False, True, False]


def test_frames_before_the_key_frame_are_hidden_or_left_out() -> None:
    facts = packets([2, 0, 1, 5, 3, 4])

    assert [pts for pts, _ in shown(place(facts, 4, MP4))][:3] == [0, -2 * FRAME, -FRAME]
    assert min(pts for pts, _ in shown(place(facts, 4, MKV))) == 0


def test_frames_that_are_not_shown_keep_their_place() -> None:
    invisible = [PacketFacts(stamp, stamp, 0, is_keyframe=stamp == 0) for stamp in (0, 40, 40, 80, 79, 120)]

    assert [pts for pts, _ in shown(place(invisible, 4, WEBM, ordered=True))] == [0, 40, 40, 80, 80, 120]
    assert [pts for pts, _ in shown(place(invisible, 4, MP4, ordered=True))] == [0, 40, 41, 80, 81, 120]


@pytest.mark.parametrize("ordered", [True, False])
def test_two_recordings_in_a_row_are_not_taken_for_one(ordered: bool) -> None:
    facts = packets([*range(30), *range(10)])

    assert place(facts, 40, MP4, ordered=ordered) == "its time stamps are out of order"


def test_what_an_edit_list_hides_at_the_beginning_needs_a_container_that_hides() -> None:
    hidden = [PacketFacts((index - 2) * FRAME, (index - 2) * FRAME, FRAME, index == 0, index < 2) for index in range(6)]

    assert [pts for pts, _ in shown(place(hidden, 2, MP4))] == [-2 * FRAME, -FRAME, 0, FRAME]
    assert "cannot be done in MKV" in str(place(hidden, 2, MKV))


def test_the_end_may_lie_between_two_units() -> None:
    section = place(packets([0, 1, 2, 3]), Fraction(5, 3), MKV)

    assert [pts for pts, _ in shown(section)] == [0, FRAME]
    assert isinstance(section, Section)
    assert section.times[-1] is not None
    assert section.times[-1].duration == 27  # 66.67 units, rounded up
