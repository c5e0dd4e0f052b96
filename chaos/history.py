"""Checks the history of a job, its events, against the lifecycle: legal transitions in attempts that exist."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.db.tables import Job, JobEvent
from jobs.lifecycle import TRANSITIONS, Stage, State

_STATES = {str(state) for state in State}


def check_history(job: Job, events: Sequence[JobEvent]) -> list[str]:
    """Return the violations in a job's events, which are in order of their ids; empty when the history is legal."""
    violations: list[str] = []
    state: State | None = None
    attempt, stage = 0, -1
    for event in events:
        name = f"event {event.id} ({event.kind}, attempt {event.attempt})"
        if state is not None and state.is_terminal:
            violations.append(f"{name} follows a final state")
        if event.kind in _STATES:
            next_state = State(event.kind)
            if state is None and next_state is not State.QUEUED:
                violations.append(f"{name} is the first, expected queued")
            if state is not None and next_state not in TRANSITIONS[state]:
                violations.append(f"{name} follows {state}")
            if next_state is State.RUNNING:
                attempt, stage = attempt + 1, -1
            state = next_state
        elif state is not State.RUNNING:
            violations.append(f"{name} while the job was {state}")
        if event.attempt != attempt:
            violations.append(f"{name} during attempt {attempt}")
        if event.kind == "stage":
            position = list(Stage).index(Stage(event.data["stage"]))
            if position < stage:
                violations.append(f"{name} goes back to {event.data['stage']}")
            stage = position
    if state is not job.state:
        violations.append(f"the row says {job.state}, the history ends with {state}")
    if attempt != job.attempt:
        violations.append(f"the row says attempt {job.attempt}, the history ends in attempt {attempt}")
    return violations
