"""Whether the events of a job tell a legal story: only changes that the lifecycle knows, in attempts that exist."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.db.tables import Job, JobEvent
from jobs.lifecycle import TRANSITIONS, Stage, State

_STATES = {str(state) for state in State}


def illegal_events(job: Job, events: Sequence[JobEvent]) -> list[str]:
    """Return what is wrong with a job's events, in order of their ids; nothing when the story is legal."""
    faults: list[str] = []
    state: State | None = None
    attempt, stage = 0, -1
    for event in events:
        here = f"event {event.id} ({event.kind}, attempt {event.attempt})"
        if state is not None and state.is_terminal:
            faults.append(f"{here} comes after the end")
        if event.kind in _STATES:
            following = State(event.kind)
            if state is None and following is not State.QUEUED:
                faults.append(f"{here} is the first")
            if state is not None and following not in TRANSITIONS[state]:
                faults.append(f"{here} follows {state}")
            if following is State.RUNNING:
                attempt, stage = attempt + 1, -1
            state = following
        elif state is not State.RUNNING:
            faults.append(f"{here} while {state}")
        if event.attempt != attempt:
            faults.append(f"{here} in attempt {attempt}")
        if event.kind == "stage":
            place = list(Stage).index(Stage(event.data["stage"]))
            if place < stage:
                faults.append(f"{here} goes back to {event.data['stage']}")
            stage = place
    if state is not job.state:
        faults.append(f"the row says {job.state}, the story ends with {state}")
    if attempt != job.attempt:
        faults.append(f"the row says attempt {job.attempt}, the story has {attempt}")
    return faults
