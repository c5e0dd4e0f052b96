"""Events of jobs, and the parameters of the calls that read them."""

from __future__ import annotations

from typing import Any, Literal

from flask_openapi3.models import MediaType, Schema
from pydantic import ConfigDict, Field, field_validator

from api.bridge.waiting import EVENT_STREAM
from api.events.updates import PROGRESS
from api.schemas.parameters import Parameters
from api.schemas.view import Timestamp, View
from jobs.lifecycle import EventKind, State

MAX_POSITION = 2**63 - 1
_KINDS = tuple(EventKind)


def _checked_kinds(value: str | None, allowed: tuple[str, ...]) -> str | None:
    unknown = [kind for kind in (value or "").split(",") if kind not in allowed] if value is not None else []
    if unknown:
        raise ValueError(f"got {unknown[0][:40]!r}; allowed are {', '.join(allowed)}, separated by commas")
    return value


class EventsHeader(Parameters):
    last_event_id: str | None = Field(
        None,
        alias="Last-Event-ID",
        pattern=r"^[0-9]{1,18}$",
        description="Id of the last event that the client has; goes before `after`. Browsers send it by themselves.",
    )


class JobEventsQuery(Parameters):
    model_config = ConfigDict(extra="forbid")

    after: int | Literal["latest"] = Field(
        0,
        description="Id of the last event that the client has: only later ones are returned. `latest`: only those that "
        "come from now on.",
        json_schema_extra={"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_POSITION}, {"const": "latest"}]},
    )
    kinds: str | None = Field(
        None,
        description="Only events of these kinds, separated by commas, such as `succeeded,failed`.",
        json_schema_extra={"example": "succeeded,failed"},
    )
    limit: int = Field(100, ge=1, le=500, description="Maximum number of events on a page of JSON.")

    @field_validator("after")
    @classmethod
    def _in_range(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 0 <= value <= MAX_POSITION:
            raise ValueError(f"got {value}; allowed are 0 to {MAX_POSITION} and `latest`")
        return value

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: str | None) -> str | None:
        return _checked_kinds(value, (*_KINDS, PROGRESS))

    @property
    def wanted_kinds(self) -> frozenset[str] | None:
        """The kinds that are wanted; None: all."""
        return frozenset(self.kinds.split(",")) if self.kinds is not None else None


class EventsQuery(JobEventsQuery):
    job_id: str | None = Field(None, max_length=64, description="Only events of this job.")


class EventView(View):
    id: int = Field(description="Position among all events; `after` and `Last-Event-ID` name it.")
    job_id: str
    kind: EventKind
    state: State = Field(description="State of the job after the event.")
    attempt: int = Field(description="Number of the attempt that it belongs to; 0: before the first.")
    data: dict[str, Any] = Field(description="What belongs to the kind, such as `stage` or `error`.")
    created_at: Timestamp


_STREAM_EXAMPLE = (
    'retry: 2000\nid: 41\nevent: running\ndata: {"id":41,"job_id":"job_0197f3a0c4d87a3c8e8f2b1d5c6e7f80","kind":'
    '"running","state":"running","attempt":1,"data":{},"created_at":"2026-01-31T12:00:00.000Z"}\n\n'
)


class EventPage(View):
    model_config = ConfigDict(
        openapi_extra={  # type: ignore[typeddict-unknown-key]
            "description": "A page of events, or a stream of them where `Accept` asks for `text/event-stream`.",
            "content": {EVENT_STREAM: MediaType(schema=Schema(type="string"), example=_STREAM_EXAMPLE)},
        }
    )

    data: list[EventView] = Field(description="Events, oldest first.")
    next_after: int = Field(description="`after` of the next page; also when there is nothing more yet.")
    has_more: bool = Field(description="Whether the next page may have events already.")
