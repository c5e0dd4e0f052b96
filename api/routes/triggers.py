"""`/v1/triggers`: rules that turn bucket events into jobs; made, seen, switched, tried, removed."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag

from api.auth import current_tenant
from api.context import current_context
from api.errors import EventUnreadableError
from api.presentation import iso
from api.schemas.responses import problems
from api.schemas.triggers import DryRunBody, DryRunView, TriggerList, TriggerPath, TriggerUpdate, TriggerView
from jobs.db.tables import Trigger, TriggerEvent
from jobs.triggers.dry_run import dry_run_events
from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.message import read_document
from jobs.triggers.rule import NewTrigger, check_rule
from jobs.triggers.service import (
    EventCounts,
    count_events,
    create_trigger,
    delete_trigger,
    get_trigger,
    latest_events,
    list_triggers,
    set_trigger_enabled,
)

SHOWN_EVENTS = 20

triggers_api = APIBlueprint("triggers", __name__, url_prefix="/v1/triggers", abp_tags=[Tag(name="triggers")])


@triggers_api.post("", summary="Make a trigger", responses={"201": TriggerView, **problems(400, 413, 415, 422, 503)})
def create(body: NewTrigger) -> Response:
    """From now on each new object that it covers makes a job. One whose own outputs it would cover is refused."""
    ctx, tenant = current_context(), current_tenant()
    check_rule(
        body,
        input_buckets=frozenset(ctx.settings.input_buckets),
        output_buckets=frozenset(ctx.settings.output_buckets),
        storage_url=ctx.settings.storage_url,
    )
    with ctx.db.transaction() as tx:
        trigger = create_trigger(tx, body, tenant=tenant)
    response = jsonify(_present(trigger, EventCounts(), []))
    response.status_code = HTTPStatus.CREATED
    response.headers["Location"] = _path(trigger.id)
    return response


@triggers_api.get("", summary="List triggers", responses={"200": TriggerList, **problems(422, 503)})
def list_all() -> Response:
    """Newest first, with counts of what became of their events."""
    with current_context().db.reading() as tx:
        triggers = list_triggers(tx, tenant=current_tenant())
        counts = count_events(tx, [trigger.id for trigger in triggers])
    return jsonify({"data": [_present(trigger, counts[trigger.id], None) for trigger in triggers]})


@triggers_api.get("/<trigger_id>", summary="See a trigger", responses={"200": TriggerView, **problems(404, 422, 503)})
def get_one(path: TriggerPath) -> Response:
    """With its latest events: which jobs they made, or why none."""
    return _answer(path.trigger_id)


@triggers_api.patch(
    "/<trigger_id>",
    summary="Switch a trigger on or off",
    responses={"200": TriggerView, **problems(400, 404, 415, 422, 503)},
)
def switch(path: TriggerPath, body: TriggerUpdate) -> Response:
    """Off: events are let go. On: also ends a pause, and what was held meanwhile becomes jobs."""
    with current_context().db.transaction() as tx:
        set_trigger_enabled(tx, path.trigger_id, tenant=current_tenant(), enabled=body.enabled)
    return _answer(path.trigger_id)


@triggers_api.delete("/<trigger_id>", summary="Remove a trigger", responses={"204": None, **problems(404, 422, 503)})
def delete(path: TriggerPath) -> Response:
    """Its jobs go on; the memory of its events is lost."""
    with current_context().db.transaction() as tx:
        delete_trigger(tx, path.trigger_id, tenant=current_tenant())
    return Response(status=HTTPStatus.NO_CONTENT)


@triggers_api.post(
    "/<trigger_id>/dry-run",
    summary="What would an event do?",
    responses={"200": DryRunView, **problems(400, 404, 413, 415, 422, 503)},
)
def dry_run(path: TriggerPath, body: DryRunBody) -> Response:
    """Looks at the object as a real event would have it looked at, and makes nothing."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        trigger = get_trigger(tx, path.trigger_id, tenant=current_tenant())
    if body.key is not None:
        events = [ObjectCreated("dry-run", trigger.bucket, (body.key,))]
    else:
        try:
            events = read_document(body.event)
        except UnreadableEventError as exc:
            raise EventUnreadableError(str(exc)) from exc
    return jsonify({"data": [asdict(one) for one in dry_run_events(ctx.db, ctx.buckets, trigger, events)]})


def _answer(trigger_id: str) -> Response:
    with current_context().db.reading() as tx:
        trigger = get_trigger(tx, trigger_id, tenant=current_tenant())
        counts = count_events(tx, [trigger_id])[trigger_id]
        return jsonify(_present(trigger, counts, latest_events(tx, trigger_id, SHOWN_EVENTS)))


def _present(trigger: Trigger, counts: EventCounts, latest: list[TriggerEvent] | None) -> dict[str, Any]:
    state = "disabled" if not trigger.enabled else "paused" if trigger.paused_at is not None else "enabled"
    return {
        "id": trigger.id,
        "name": trigger.name,
        "state": state,
        "pause_reason": trigger.pause_reason,
        "bucket": trigger.bucket,
        "prefix": trigger.prefix,
        "suffixes": trigger.suffixes,
        "source_field": trigger.source_field,
        "request": trigger.request,
        "deliver_to": trigger.deliver_to,
        "events": asdict(counts),
        "latest_events": None if latest is None else [_present_event(event) for event in latest],
        "created_at": iso(trigger.created_at),
        "links": {"self": _path(trigger.id), "dry_run": f"{_path(trigger.id)}/dry-run"},
    }


def _present_event(event: TriggerEvent) -> dict[str, Any]:
    return {
        "key": event.object_key,
        "outcome": event.outcome,
        "reason": event.reason,
        "job_id": event.job_id,
        "received_at": iso(event.received_at),
        "retry_at": iso(event.retry_at),
    }


def _path(trigger_id: str) -> str:
    return f"{current_context().settings.public_url.rstrip('/')}/v1/triggers/{trigger_id}"
