"""The table of transitions, pair by pair, and the progress bar."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.lifecycle import TRANSITIONS, IllegalTransitionError, Stage, State, check_transition, overall_progress

ALLOWED = {
    (State.QUEUED, State.RUNNING),
    (State.QUEUED, State.CANCELED),
    (State.QUEUED, State.FAILED),
    (State.RUNNING, State.QUEUED),
    (State.RUNNING, State.SUCCEEDED),
    (State.RUNNING, State.FAILED),
    (State.RUNNING, State.CANCELED),
}


@pytest.mark.parametrize(("current", "following"), list(product(State, State)))
def test_every_pair_of_states_is_either_allowed_or_refused(current: State, following: State) -> None:
    if (current, following) in ALLOWED:
        check_transition(current, following)
    else:
        with pytest.raises(IllegalTransitionError, match=f"{current} -> {following}"):
            check_transition(current, following)


def test_terminal_states_lead_nowhere_and_the_others_somewhere() -> None:
    assert {state for state in State if state.is_terminal} == {State.SUCCEEDED, State.FAILED, State.CANCELED}
    assert set(TRANSITIONS) == set(State)


def test_stages_fill_the_bar_from_zero_to_one_without_gaps() -> None:
    assert overall_progress(Stage.FETCH, 0.0) == 0.0
    assert overall_progress(Stage.UPLOAD, 1.0) == 1.0
    for before, after in pairwise(Stage):
        assert overall_progress(before, 1.0) == overall_progress(after, 0.0)


@given(st.sampled_from(list(Stage)), st.floats(-1, 2), st.floats(-1, 2))
def test_progress_grows_with_the_fraction_and_stays_in_range(stage: Stage, first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert 0.0 <= overall_progress(stage, low) <= overall_progress(stage, high) <= 1.0
