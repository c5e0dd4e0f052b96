"""Every route, with every kind of key: what the route table says is what happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from werkzeug.routing import Rule

from api.auth import Access
from api.key_check import access_of
from jobs.api_keys.scope import KeyScope
from tests.unit.api.conftest import Harness, shared_app
from tests.unit.api.test_key_check import ADMIN, READ, WRITE, need_keys, new_key

OPEN_PATHS = re.compile(r"/|/healthz|/readyz|/openapi\.json|/docs/.*|/static/.*|/v1/s3-events")
SIGNED_PATHS = {
    "/v1/jobs/<job_id>/artifacts/<name>",
    "/v1/jobs/<job_id>/artifacts.zip",
    "/v1/uploads/<upload_id>/content",
}
# They answer with secrets.
READ_WITH_WRITE_SCOPE = {
    "/v1/webhooks/endpoints/<endpoint_id>/secret",
    "/v1/webhooks/secret",
    "/v1/webhooks/default/secret",
}
# Answers to keys of others: nothing is found, an empty list, or the body is asked for before anything is looked up.
BODY_FIRST = {400, 415, 422}
PLATFORM_LISTS = {"/v1/variants", "/v1/models", "/v1/account"}
# Each tenant has its own, made when it is first asked for.
OWN_SECRETS = {"/v1/webhooks/secret", "/v1/webhooks/default/secret"}
# An admin sees the numbers of all tenants in them.
OF_ADMINS_TOO = {"/v1/workers", "/v1/queue"}
# Lists in the shape of another service.
RESULT_LISTS = {"/v1/predictions", "/v1/files"}


def routes() -> Iterator[tuple[Rule, str]]:
    for rule in shared_app().url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            yield rule, method


ROUTES = list(routes())
IDS = [f"{method} {rule.rule}" for rule, method in ROUTES]
OF_TENANTS = [(rule, method) for rule, method in ROUTES if not OPEN_PATHS.fullmatch(rule.rule)]


@dataclass
class Rows:
    """Rows of the tenant `default`, by the name of the path's argument."""

    ids: dict[str, str] = field(default_factory=dict)

    def url(self, rule: Rule) -> str:
        return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: self.ids.get(found[1], "x"), rule.rule)


@pytest.fixture
def rows(harness: Harness) -> Rows:
    harness.add_worker()
    job = harness.submit()
    upload = harness.upload()
    harness.succeed(str(job["id"]))
    trigger = harness.client.post("/v1/triggers", json={"bucket": "videos", "prefix": "in/"}).json or {}
    key = harness.client.post("/v1/api-keys", json={"scopes": ["jobs:read"]}).json or {}
    return Rows(
        {
            "job_id": str(job["id"]),
            "name": "audio.flac",
            "upload_id": upload,
            "trigger_id": str(trigger["id"]),
            "worker_id": "w1",
            "key_id": str(key["id"]),
            "prediction_id": str(job["id"]),
            "request_id": str(job["id"]),
            "file_id": upload,
            "owner": "fal-ai",
            "alias": "mmaudio-v2",
        }
    )


def status(harness: Harness, method: str, url: str, key: str | None) -> int:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with harness.client.open(url, method=method, headers=headers) as answer:
        return answer.status_code


@pytest.mark.parametrize(("rule", "method"), ROUTES, ids=IDS)
def test_the_open_routes_are_the_known_ones(rule: Rule, method: str) -> None:
    access = access_of(shared_app(), rule.endpoint, method)
    if OPEN_PATHS.fullmatch(rule.rule):
        assert access is Access.OPEN
    elif rule.rule in SIGNED_PATHS:
        assert access is Access.SIGNED_LINK
    else:
        assert isinstance(access, KeyScope)
        reads = method in {"GET", "HEAD"} and rule.rule not in READ_WITH_WRITE_SCOPE
        assert access is ADMIN or access is (READ if reads else WRITE)


def test_each_scope_opens_its_routes_alone(harness: Harness, rows: Rows) -> None:
    need_keys(harness)
    keys = {scope: new_key(harness, scope) for scope in KeyScope}
    for rule, method in OF_TENANTS:
        url, access = rows.url(rule), access_of(harness.app, rule.endpoint, method)
        wanted = access if isinstance(access, KeyScope) else (READ if method in {"GET", "HEAD"} else WRITE)
        assert status(harness, method, url, None) == 401, (method, url)
        assert status(harness, method, url, "mma_" + "A" * 43) == 401, (method, url)
        for scope in KeyScope:
            if scope in {wanted, ADMIN} and method == "DELETE":
                continue  # it would take the row away that other calls need
            refused = status(harness, method, url, keys[scope]) == 403
            expected = scope not in {wanted, ADMIN} or rule.rule == "/v1/uploads/<upload_id>/content"
            assert refused is expected, (method, url, scope)


@pytest.mark.parametrize("scopes", [(READ, WRITE), (ADMIN,)])
def test_another_tenant_finds_nothing(harness: Harness, rows: Rows, scopes: tuple[KeyScope, ...]) -> None:
    need_keys(harness)
    headers = {"Authorization": f"Bearer {new_key(harness, *scopes, tenant='other')}"}
    for rule, method in OF_TENANTS:
        url, access = rows.url(rule), access_of(harness.app, rule.endpoint, method)
        if rule.rule in PLATFORM_LISTS | OWN_SECRETS or "<worker_id>" in rule.rule or "<tenant>" in rule.rule:
            continue
        if access is ADMIN and ADMIN not in scopes:
            continue
        with harness.client.open(url, method=method, headers=headers) as answer:
            if "<" in rule.rule:
                refused_first = BODY_FIRST if method in {"POST", "PUT", "PATCH"} else set()
                link_only = {403} if rule.rule == "/v1/uploads/<upload_id>/content" else set()
                assert answer.status_code in {404} | refused_first | link_only, (method, url, answer.data)
            elif method == "GET" and access is not ADMIN and not (ADMIN in scopes and rule.rule in OF_ADMINS_TOO):
                assert is_empty(answer.json or {}, "results" if url in RESULT_LISTS else "data"), (url, answer.json)


def is_empty(document: dict[str, Any], list_name: str = "data") -> bool:
    """Return whether a list has no rows, or rows of numbers that are all 0."""
    rows = document.get(list_name, [document])
    return all(value in (0, None, False) for row in rows for value in numbers(row))


def numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name != "variant":
                yield from numbers(each)
    else:
        yield value


def test_rows_are_not_changed_by_another_tenant(harness: Harness, rows: Rows) -> None:
    """With bodies that are accepted, so that the row is looked for."""
    need_keys(harness)
    headers = {"Authorization": f"Bearer {new_key(harness, ADMIN, tenant='other')}"}
    ids = rows.ids
    calls = [
        ("POST", f"/v1/jobs/{ids['job_id']}/cancel", None),
        ("POST", f"/v1/jobs/{ids['job_id']}/retry", None),
        ("POST", f"/v1/triggers/{ids['trigger_id']}/dry-run", {"key": "in/a.mp4"}),
        ("POST", f"/v1/triggers/{ids['trigger_id']}/backfill", {}),
        ("PATCH", f"/v1/triggers/{ids['trigger_id']}", {"enabled": False}),
        ("DELETE", f"/v1/triggers/{ids['trigger_id']}", None),
        ("POST", f"/v1/api-keys/{ids['key_id']}/rotate", {}),
        ("DELETE", f"/v1/api-keys/{ids['key_id']}", None),
    ]
    for method, url, body in calls:
        assert harness.client.open(url, method=method, json=body, headers=headers).status_code == 404, url
    job = harness.client.post("/v1/jobs", json={"video": ids["upload_id"]}, headers=headers)
    assert (job.status_code, (job.json or {})["errors"][0]["field"]) == (422, "video")
