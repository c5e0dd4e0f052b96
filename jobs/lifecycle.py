"""The life of a job as pure data: states, stages, and which change of state is allowed.

No database and no clock here; `jobs.service` is the only code that carries a change out.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job stands. Each state says what it means, who enters it and who leaves it."""

    QUEUED = "queued"
    """Waits for a worker. Entered by submit, by a lost lease and by a retryable failure (the sweep, the worker);
    left by a worker's claim, by cancel, and by the sweep when the job waited longer than its `queue_ttl_s`."""

    RUNNING = "running"
    """A worker holds the lease of the current attempt. Entered by a claim alone; left by that worker (complete, fail,
    canceled) or, when the lease has run out, by the sweep."""

    SUCCEEDED = "succeeded"
    """Artifacts are published and the row points at them. Entered by the worker that holds the attempt. Final."""

    FAILED = "failed"
    """The job will not give a sound; `error` says why. Entered by the worker or the sweep. Final."""

    CANCELED = "canceled"
    """Somebody asked for the end and the device has let go. Entered by cancel (while queued), by the worker or the
    sweep (while running). Final."""

    @property
    def is_terminal(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELED, State.FAILED}),
    State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELED: frozenset(),
}

TERMINAL_STATES = frozenset(state for state, following in TRANSITIONS.items() if not following)


class Stage(StrEnum):
    """What a running job is doing, in the order in which it happens."""

    FETCH = "fetch"
    DECODE = "decode"
    ENCODE = "encode"
    SAMPLE = "sample"
    VOCODE = "vocode"
    MUX = "mux"
    UPLOAD = "upload"


# Where each stage ends on the 0..1 bar. Sampling takes most of the time on every device we have measured.
STAGE_ENDS: dict[Stage, float] = {
    Stage.FETCH: 0.03,
    Stage.DECODE: 0.10,
    Stage.ENCODE: 0.20,
    Stage.SAMPLE: 0.85,
    Stage.VOCODE: 0.92,
    Stage.MUX: 0.97,
    Stage.UPLOAD: 1.0,
}


class AttemptOutcome(StrEnum):
    """How one attempt at a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REQUEUED = "requeued"
    """Its worker was stopped and released the job; the attempt does not count."""
    LOST = "lost"
    """Its worker's lease expired."""


class EventKind(StrEnum):
    """What a job event records: entering a state, entering a stage, or a request to cancel."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    STAGE = "stage"
    CANCEL_REQUESTED = "cancel_requested"


class ArtifactKind(StrEnum):
    """What a file that a job made is."""

    AUDIO = "audio"
    VIDEO = "video"


class WorkerState(StrEnum):
    """What a worker process reports about itself; maintenance alone sets `lost`."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


class TriggerOutcome(StrEnum):
    """What a trigger did with one object version."""

    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    HELD = "held"
    """No job could be made yet; the event is retried at `retry_at`."""


class IllegalTransitionError(ValueError):
    """Raised when code asks for a change of state that the table does not have. A programming error, never retried."""


def check_transition(current: State, following: State) -> None:
    """Raise `IllegalTransitionError` unless `current -> following` stands in `TRANSITIONS`."""
    allowed = TRANSITIONS[current]
    if following not in allowed:
        names = ", ".join(sorted(allowed)) or "nothing, it is final"
        raise IllegalTransitionError(
            f"A job cannot go from {current} to {following}; from {current} it may go to {names}."
        )


def overall_progress(stage: Stage, fraction: float) -> float:
    """Return the progress in 0..1 of a job that has done `fraction` (0..1) of `stage`."""
    stages = list(Stage)
    index = stages.index(stage)
    start = STAGE_ENDS[stages[index - 1]] if index else 0.0
    done = min(max(fraction, 0.0), 1.0)
    return start * (1.0 - done) + STAGE_ENDS[stage] * done
