"""`/v1/presets`: named templates of requests, in versions."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.context import current_context
from api.presentation import answer, conditional_answer
from api.schemas.presets import (
    ListPresetsQuery,
    PresetBody,
    PresetPage,
    PresetPageLinks,
    PresetPath,
    PresetQuery,
    PresetVersions,
    PresetView,
)
from api.schemas.responses import problems
from jobs.cursor import place_of
from jobs.errors import FieldProblem, RequestInvalidError
from jobs.service.presets import (
    PRESET_NAME,
    check_template,
    delete_preset,
    find_preset,
    list_presets,
    list_versions,
    put_preset,
)
from jobs.service.submission import commit_once, resolve_defaults
from jobs.webhooks.job_url import url_problem

presets_api = APIBlueprint("presets", __name__, url_prefix="/v1/presets", abp_tags=[Tag(name="presets")])


@presets_api.put(
    "/<name>",
    summary="Create a preset, or a version of one",
    responses={"201": PresetView, "200": PresetView, **problems(400, 403, 409, 411, 413, 415, 422, 503, 507)},
)
def put(path: PresetPath, body: PresetBody) -> Response:
    """Adds a version; earlier ones stay as they are. 200: the newest version is the same already.

    A job whose request has `preset: NAME` gets the fields that it does not have itself from the newest version, with
    `NAME@VERSION` from that one, when it is created. 422: no request with these fields could be valid.
    """
    ctx = current_context()
    ctx.check_disk()
    try:
        template, policy = check_template(body.request), ctx.policy()
        _, found = resolve_defaults(template, policy)
        if (problem := url_problem("webhook_url", template.webhook_url, policy.webhooks)) is not None:
            found.append(problem)
        if found:
            raise RequestInvalidError(found)
    except RequestInvalidError as exc:
        named = [FieldProblem(f"request.{one.field}".removesuffix(".request"), one.message) for one in exc.problems]
        raise RequestInvalidError(named) from exc
    preset, is_new = commit_once(
        ctx.db, lambda tx: put_preset(tx, path.name, body.request, body.description), repeatable=True
    )
    with ctx.db.reading() as tx:
        view = PresetView.from_row(preset, ctx.links(tx))
    response = answer(view, HTTPStatus.CREATED if is_new else HTTPStatus.OK)
    response.headers["Location"] = view.links.version
    return response


@presets_api.get("", summary="List presets", responses={"200": PresetPage, "304": None, **problems(422, 503)})
def list_all(query: ListPresetsQuery) -> Response:
    """Returns a page of presets by name, each in its newest version; `links.next` is the next page."""
    ctx = current_context()
    after = place_of(query.cursor, PRESET_NAME) if query.cursor is not None else ""
    with ctx.db.reading() as tx:
        found, links = list_presets(tx, after=after, limit=query.limit + 1), ctx.links(tx)
    page = found[: query.limit]
    next_cursor = page[-1].name if len(found) > query.limit else None
    following = None
    if next_cursor is not None:
        following = links.presets_page(urlencode({"limit": query.limit, "cursor": next_cursor}))
    data = [PresetView.from_row(preset, links) for preset in page]
    return conditional_answer(PresetPage(data=data, next_cursor=next_cursor, links=PresetPageLinks(next=following)))


@presets_api.get(
    "/<name>", summary="Get a preset", responses={"200": PresetView, "304": None, **problems(404, 422, 503)}
)
def get_one(path: PresetPath, query: PresetQuery) -> Response:
    """Returns the newest version of the preset, or the one with this number."""
    ctx = current_context()
    reference = path.name if query.version is None else f"{path.name}@{query.version}"
    with ctx.db.reading() as tx:
        return conditional_answer(PresetView.from_row(find_preset(tx, reference), ctx.links(tx)))


@presets_api.get(
    "/<name>/versions",
    summary="List the versions of a preset",
    responses={"200": PresetVersions, "304": None, **problems(404, 422, 503)},
)
def get_versions(path: PresetPath) -> Response:
    """Returns all versions of the preset, newest first."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        versions, links = list_versions(tx, path.name), ctx.links(tx)
    return conditional_answer(PresetVersions(data=[PresetView.from_row(version, links) for version in versions]))


@presets_api.delete("/<name>", summary="Delete a preset", responses={"204": None, **problems(403, 404, 422, 503)})
def delete_one(path: PresetPath) -> Response:
    """Deletes all its versions. Jobs keep what they got from it. A new preset of this name goes on with the numbers."""
    ctx = current_context()
    ctx.db.run(lambda tx: delete_preset(tx, path.name), repeatable=True)
    return Response(status=HTTPStatus.NO_CONTENT)
