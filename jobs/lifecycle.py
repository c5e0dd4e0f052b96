"""Job states, stages and allowed transitions, and the other enums of the domain. Pure data.

Uses no database and no clock; only `jobs.service` changes the state of a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """State of a job. Each member documents its meaning, who enters it and who leaves it."""

    QUEUED = "queued"
    """Waits for a worker. Entered by submit, and after an expired lease, a retryable failure or a release
    (maintenance, the worker); left by a worker's claim, by cancel, and by maintenance after `queue_ttl_s`."""

    RUNNING = "running"
    """A worker holds the lease of the current attempt. Entered only by a claim; left by that worker (complete, fail,
    release, acknowledge cancel) or, when the lease has expired or the attempt is overdue, by maintenance."""

    SUCCEEDED = "succeeded"
    """The artifacts are published. Entered by the worker that holds the attempt. Final."""

    FAILED = "failed"
    """The job has no result; `error` tells why. Entered by the worker or by maintenance. Final."""

    CANCELED = "canceled"
    """The job was canceled and occupies no device. Entered by cancel (while queued), by the worker or by maintenance
    (while running). Final."""

    @property
    def is_terminal(self) -> bool:
        """Whether no transition leaves this state."""
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
    """Processing stage of a running job, in order."""

    FETCH = "fetch"
    DECODE = "decode"
    ENCODE = "encode"
    SAMPLE = "sample"
    VOCODE = "vocode"
    MUX = "mux"
    UPLOAD = "upload"


# Overall progress (0..1) at the end of each stage. Sampling takes most of the time on every device we have measured.
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
    """How an attempt at a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REQUEUED = "requeued"
    """Its worker was stopped, or what it needs was in trouble; the job went back and the attempt does not count."""
    LOST = "lost"
    """Its worker's lease expired."""


class EventKind(StrEnum):
    """What a job event records: entering a state, entering a stage, a request to cancel, the end of its batch."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    STAGE = "stage"
    CANCEL_REQUESTED = "cancel_requested"
    BATCH_FINISHED = "batch_finished"
    """It was the last job of its batch to end: all of them have."""

    @classmethod
    def entered(cls, state: State) -> EventKind:
        """Return the kind of the event that records entering `state`."""
        return cls(state.value)


def state_after(kind: EventKind, data: Mapping[str, Any] | None = None) -> State:
    """Return the state of a job after an event of this kind.

    Args:
        data: of the event; `BATCH_FINISHED` has the state in it.
    """
    if kind is EventKind.BATCH_FINISHED:
        assert data is not None, kind
        return State(data["state"])
    return State.RUNNING if kind in {EventKind.STAGE, EventKind.CANCEL_REQUESTED} else State(kind.value)


class ArtifactKind(StrEnum):
    """Media kind of a file that a job made."""

    AUDIO = "audio"
    VIDEO = "video"
    PREVIEW = "preview"
    """A small picture of a take's spectrogram; its row also has the waveform's peaks."""


class InputKind(StrEnum):
    """What a job's sound is generated from."""

    VIDEO = "video"
    IMAGE = "image"
    TEXT = "text"


class UploadState(StrEnum):
    """State of an uploaded file."""

    PENDING = "pending"
    """Announced; its content has not arrived, or did not match the announcement."""
    READY = "ready"
    """Its content matches the announcement; jobs may name it."""
    EXPIRED = "expired"
    """Its time to live has passed, or its object no longer exists."""


class WorkerState(StrEnum):
    """State that a worker process reports about itself; only maintenance sets `lost`."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


class DisplayedWorkerState(StrEnum):
    """State of a worker as callers see it: `ready` is shown as `idle`, `busy` or `unavailable`."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    """It takes no jobs, because something that it needs is in trouble."""
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


class Dependency(StrEnum):
    """What a worker needs besides itself; trouble of one of them never counts as an attempt at a job."""

    STORE = "store"
    DATABASE = "database"
    DISK = "disk"
    """The disk of the worker's temporary files, of a local object folder and of a SQLite file."""
    DEVICE = "device"
    WEIGHTS = "weights"


class TriggerState(StrEnum):
    """State of a bucket trigger."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    """An operator disabled it; events are ignored."""
    PAUSED = "paused"
    """The rate breaker paused it; events are held."""


class TriggerOutcome(StrEnum):
    """What a trigger did with an object version."""

    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    HELD = "held"
    """No job could be made yet; the event is retried at `retry_at`."""


class WebhookEvent(StrEnum):
    """What a webhook tells."""

    STARTED = "started"
    """A worker has begun an attempt at the job."""
    PROGRESS = "progress"
    """The running job has entered another stage."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    BATCH_FINISHED = "batch_finished"
    """The last job of a batch has ended."""
    TEST = "test"
    """Sent on request, to try an endpoint."""

    @property
    def type(self) -> str:
        """The `type` of the body."""
        return {WebhookEvent.BATCH_FINISHED: "batch.finished", WebhookEvent.TEST: "webhook.test"}.get(
            self, f"job.{self.value}"
        )


WEBHOOK_EVENTS: dict[EventKind, WebhookEvent] = {
    EventKind.RUNNING: WebhookEvent.STARTED,
    EventKind.STAGE: WebhookEvent.PROGRESS,
    EventKind.SUCCEEDED: WebhookEvent.SUCCEEDED,
    EventKind.FAILED: WebhookEvent.FAILED,
    EventKind.CANCELED: WebhookEvent.CANCELED,
    EventKind.BATCH_FINISHED: WebhookEvent.BATCH_FINISHED,
}
JOB_WEBHOOK_EVENTS = tuple(event for event in WEBHOOK_EVENTS.values() if event is not WebhookEvent.BATCH_FINISHED)
"""Those about one job."""
DEFAULT_WEBHOOK_EVENTS = (WebhookEvent.SUCCEEDED, WebhookEvent.FAILED, WebhookEvent.CANCELED)


class WebhookBody(StrEnum):
    """Shape of a webhook's body."""

    JOB = "job"
    REPLICATE = "replicate"
    FAL = "fal"
    BATCH = "batch"
    TEST = "test"


class DeliveryState(StrEnum):
    """State of a webhook delivery."""

    PENDING = "pending"
    """Not accepted yet; it is tried again."""
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    FAILED = "failed"
    """The last of all tries failed, or the receiver answered 410."""
    DROPPED = "dropped"
    """Not tried any more, because the endpoint was disabled or what it tells of was deleted."""


class IllegalTransitionError(ValueError):
    """Raised for a transition that `TRANSITIONS` does not allow. A programming error, never retried."""


def check_transition(current: State, following: State) -> None:
    """Check that a transition is allowed.

    Raises:
        IllegalTransitionError: `TRANSITIONS` does not allow `current -> following`.
    """
    allowed = TRANSITIONS[current]
    if following not in allowed:
        names = ", ".join(sorted(allowed)) or "nothing, it is final"
        raise IllegalTransitionError(f"Got transition {current} -> {following}; from {current} allowed: {names}.")


def overall_progress(stage: Stage, fraction: float) -> float:
    """Return a job's overall progress (0..1) at `fraction` (0..1) of `stage`."""
    stages = list(Stage)
    index = stages.index(stage)
    start = STAGE_ENDS[stages[index - 1]] if index else 0.0
    done = min(max(fraction, 0.0), 1.0)
    return start * (1.0 - done) + STAGE_ENDS[stage] * done
