"""`/v1/triggers`: create, get, list, enable, try and delete the rules that turn bucket events into jobs."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.context import current_context
from api.presentation import answer
from api.schemas.jobs import PageLinks
from api.schemas.responses import problems
from api.schemas.triggers import (
    BackfillBody,
    BackfillView,
    DryRunBody,
    DryRunObject,
    DryRunView,
    ListTriggersQuery,
    TriggerList,
    TriggerPath,
    TriggerUpdate,
    TriggerView,
)
from jobs.errors import EventUnreadableError
from jobs.outbound.policy import OutboundPolicy
from jobs.service.tenant_limits import check_trigger_count
from jobs.tenants.rules import rules_of
from jobs.triggers.backfill import backfill
from jobs.triggers.dry_run import dry_run_events
from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.message import read_document
from jobs.triggers.rule import NewTrigger, check_rule, check_still_allowed, is_still_allowed
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


@triggers_api.post(
    "", summary="Create a trigger", responses={"201": TriggerView, **problems(400, 411, 413, 415, 422, 503, 507)}
)
def create(body: NewTrigger) -> Response:
    """From now on each new object that matches makes a job. 422: the jobs' own outputs would match."""
    ctx = current_context()
    ctx.check_disk()
    with ctx.db.transaction() as tx:
        rules = rules_of(tx, ctx.settings)
        check_rule(
            body,
            input_buckets=rules.input_buckets,
            output_buckets=rules.output_buckets,
            storage_url=ctx.settings.storage_url,
            webhooks=OutboundPolicy.for_webhooks(ctx.settings),
        )
        check_trigger_count(tx, rules.max_triggers)
        trigger = create_trigger(tx, body)
        view = TriggerView.from_row(trigger, counts=EventCounts(), latest=[], links=ctx.links(tx))
    response = answer(view, HTTPStatus.CREATED)
    response.headers["Location"] = view.links.self_
    return response


@triggers_api.get("", summary="List triggers", responses={"200": TriggerList, **problems(422, 503)})
def list_all(query: ListTriggersQuery) -> Response:
    """Returns a page of triggers, newest first, with counts of the outcomes of their events.

    `links.next` is the next page.
    """
    ctx = current_context()
    with ctx.db.reading() as tx:
        page = list_triggers(tx, cursor=query.cursor, limit=query.limit)
        counts, links = count_events(tx, [trigger.id for trigger in page.triggers]), ctx.links(tx)
    data = [TriggerView.from_row(one, counts=counts[one.id], latest=None, links=links) for one in page.triggers]
    following = None
    if page.next_cursor is not None:
        following = links.triggers_page(urlencode({"cursor": page.next_cursor, "limit": query.limit}))
    return answer(TriggerList(data=data, next_cursor=page.next_cursor, links=PageLinks(next=following)))


@triggers_api.get("/<trigger_id>", summary="Get a trigger", responses={"200": TriggerView, **problems(404, 422, 503)})
def get_one(path: TriggerPath) -> Response:
    """Returns the trigger with its latest events: which jobs they made, or why none.

    No events are shown while the tenant may not read from the bucket or folder any more.
    """
    return _answer(path.trigger_id)


@triggers_api.patch(
    "/<trigger_id>",
    summary="Enable or disable a trigger",
    responses={"200": TriggerView, **problems(400, 404, 411, 415, 422, 503)},
)
def switch(path: TriggerPath, body: TriggerUpdate) -> Response:
    """Disabled: events are ignored. Enabling also ends a pause and retries held events."""
    with current_context().db.transaction() as tx:
        set_trigger_enabled(tx, path.trigger_id, enabled=body.enabled)
    return _answer(path.trigger_id)


@triggers_api.delete("/<trigger_id>", summary="Delete a trigger", responses={"204": None, **problems(404, 422, 503)})
def delete(path: TriggerPath) -> Response:
    """Deletes the trigger and its stored events. Its jobs continue."""
    with current_context().db.transaction() as tx:
        delete_trigger(tx, path.trigger_id)
    return Response(status=HTTPStatus.NO_CONTENT)


@triggers_api.post(
    "/<trigger_id>/dry-run",
    summary="Try a trigger",
    responses={"200": DryRunView, **problems(400, 404, 411, 413, 415, 422, 503)},
)
def dry_run(path: TriggerPath, body: DryRunBody) -> Response:
    """Returns what the trigger would do with an event. Looks up the object as for a real event; makes no job."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        trigger = get_trigger(tx, path.trigger_id)
        check_still_allowed(trigger, rules_of(tx, ctx.settings).input_buckets)
    if body.key is not None:
        events = [ObjectCreated("dry-run", trigger.bucket, (body.key,))]
    else:
        try:
            events = read_document(body.event)
        except UnreadableEventError as exc:
            raise EventUnreadableError(str(exc)) from exc
    results = dry_run_events(ctx.db, ctx.buckets, trigger, events)
    return answer(DryRunView(data=[DryRunObject.from_result(result) for result in results]))


@triggers_api.post(
    "/<trigger_id>/backfill",
    summary="Make jobs of objects already in the bucket",
    responses={"200": BackfillView, **problems(400, 404, 409, 413, 415, 422, 503)},
)
def backfill_objects(path: TriggerPath, body: BackfillBody) -> Response:
    """Handles a page of the bucket's objects as if their events had just arrived; repeating it makes no second job.

    409: the trigger is disabled or paused, or this server may not list the bucket.
    """
    ctx = current_context()
    with ctx.db.reading() as tx:
        trigger = get_trigger(tx, path.trigger_id)
        check_still_allowed(trigger, rules_of(tx, ctx.settings).input_buckets)
    page = backfill(
        ctx.db,
        ctx.buckets,
        ctx.ingestion,
        trigger,
        prefix=body.prefix,
        cursor=body.cursor,
        limit=body.limit,
        max_jobs=body.max_jobs,
        dry_run=body.dry_run,
    )
    for variant in page.variants:
        ctx.publish(variant)
    return answer(BackfillView.from_page(page))


def _answer(trigger_id: str) -> Response:
    ctx = current_context()
    with ctx.db.reading() as tx:
        trigger = get_trigger(tx, trigger_id)
        counts = count_events(tx, [trigger_id])[trigger_id]
        # Where the tenant may read no more, it does not learn what objects come either.
        readable = is_still_allowed(trigger, rules_of(tx, ctx.settings).input_buckets)
        latest = latest_events(tx, trigger_id, SHOWN_EVENTS) if readable else []
        return answer(TriggerView.from_row(trigger, counts=counts, latest=latest, links=ctx.links(tx)))
