"""Requests with and without keys: who is let in, and that nothing is read for who is not."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.context import EXTENSION
from jobs.api_keys.scope import KeyScope
from jobs.api_keys.service import create_key, get_key, revoke_key, rotate_key
from jobs.settings import Settings
from tests.unit.api.conftest import Harness

READ, WRITE, ADMIN = KeyScope.JOBS_READ, KeyScope.JOBS_WRITE, KeyScope.ADMIN


def need_keys(harness: Harness, **more: Any) -> None:
    """Have the app demand keys."""
    ctx = harness.app.extensions[EXTENSION]
    ctx.settings = Settings(**{**ctx.settings.model_dump(), "require_api_key": True, **more})


def new_key(harness: Harness, *scopes: KeyScope, tenant: str = "default", **more: Any) -> str:
    """Make a key; return its text."""
    with harness.db.of_platform().transaction() as tx:
        made = {"name": "", "expires_at": None, "actor": "test", **more}
        return create_key(tx, tenant=tenant, scopes=scopes or (READ, WRITE), **made).text


def get(client: FlaskClient, header: str | None, path: str = "/v1/jobs") -> TestResponse:
    return client.get(path, headers={} if header is None else {"Authorization": header})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Token", "Key"])
def test_a_key_is_accepted_with_the_schemes_that_clients_send(harness: Harness, scheme: str) -> None:
    need_keys(harness)
    assert get(harness.client, f"{scheme} {new_key(harness)}").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", "Bearer x", "Basic abc", "Bearer mma_" + "A" * 43, "Bearer mma_" + "A" * 5000,
        "Bearer mma_" + "ü" * 43, "Bearer KEY, Bearer KEY", "KEY", "Bearer KEY x", "Bearer \x7f",
    ],
)  # fmt: skip
def test_without_a_valid_key_the_answer_is_401(harness: Harness, header: str | None) -> None:
    need_keys(harness)
    text = new_key(harness)
    answer = get(harness.client, header.replace("KEY", text) if header else header)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (answer.json or {})["code"] == "unauthorized"
    assert answer.mimetype == "application/problem+json"


def test_a_wrong_key_is_refused_also_where_none_is_needed(harness: Harness) -> None:
    assert get(harness.client, None).status_code == 200
    assert get(harness.client, "Bearer mma_" + "A" * 43).status_code == 401


def test_a_key_of_another_service_does_no_harm_where_none_is_needed(harness: Harness) -> None:
    assert get(harness.client, "Key fal-key:secret").status_code == 200
    assert get(harness.client, "Token r8_abc").status_code == 200
    need_keys(harness)
    assert get(harness.client, "Key fal-key:secret").status_code == 401


def test_a_key_acts_for_its_tenant_also_where_none_is_needed(harness: Harness) -> None:
    harness.submit()
    assert len((get(harness.client, None).json or {})["data"]) == 1
    assert (get(harness.client, f"Bearer {new_key(harness, tenant='studio')}").json or {})["data"] == []


def test_a_revoked_key_is_refused_at_once(harness: Harness) -> None:
    need_keys(harness)
    with harness.db.of_platform().transaction() as tx:
        made = create_key(tx, tenant="default", name="", scopes=[READ], expires_at=None, actor="test")
    header = f"Bearer {made.text}"
    assert get(harness.client, header).status_code == 200
    with harness.db.of_platform().transaction() as tx:
        revoke_key(tx, made.row.id, tenant=None, actor="test")
    assert get(harness.client, header).status_code == 401


def test_an_expired_key_is_refused(harness: Harness) -> None:
    need_keys(harness)
    with harness.db.of_platform().transaction() as tx:
        made = create_key(tx, tenant="default", name="", scopes=[READ], expires_at=None, actor="test")
        rotated = rotate_key(tx, made.row.id, tenant=None, grace_s=60, actor="test")
    old, new = f"Bearer {made.text}", f"Bearer {rotated.text}"
    assert [get(harness.client, one).status_code for one in (old, new)] == [200, 200]
    harness.clock.advance(60)
    assert [get(harness.client, one).status_code for one in (old, new)] == [401, 200]


def test_a_key_without_the_scope_is_403(harness: Harness) -> None:
    need_keys(harness)
    answer = harness.client.post(
        "/v1/jobs", json={"prompt": "rain"}, headers={"Authorization": f"Bearer {new_key(harness, READ)}"}
    )
    assert (answer.status_code, (answer.json or {})["code"]) == (403, "insufficient_scope")
    assert "jobs:write" in (answer.json or {})["detail"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs/swagger", "/", "/static/style.css"])
def test_health_documentation_and_the_page_need_no_key(harness: Harness, path: str) -> None:
    need_keys(harness)
    for header in (None, "Bearer wrong"):
        with get(harness.client, header, path) as answer:
            assert answer.status_code in {200, 503}


def test_the_body_of_a_request_without_a_key_is_not_read(harness: Harness) -> None:
    class Unread:
        def read(self, *_: Any) -> bytes:
            raise AssertionError("the body was read")

    need_keys(harness)
    for path in ("/v1/jobs", "/v1/uploads", "/v1/triggers", "/v1/api-keys"):
        answer = harness.client.post(
            path,
            content_type="application/json",
            environ_overrides={"wsgi.input": Unread(), "CONTENT_LENGTH": "1000"},
        )
        assert answer.status_code == 401, path


def test_the_last_use_is_written_once_a_minute(harness: Harness) -> None:
    with harness.db.of_platform().transaction() as tx:
        made = create_key(tx, tenant="default", name="", scopes=[READ], expires_at=None, actor="test")

    def used_at() -> Any:
        assert get(harness.client, f"Bearer {made.text}").status_code == 200
        harness.app.extensions[EXTENSION].key_use.wait()
        with harness.db.of_platform().reading() as tx:
            return get_key(tx, made.row.id, tenant=None).last_used_at

    first = harness.clock.time
    assert used_at() == first
    harness.clock.advance(59)
    assert used_at() == first


def test_artifacts_open_by_a_signed_link_without_a_key_and_by_no_other(harness: Harness) -> None:
    harness.add_worker()
    key = new_key(harness, tenant="studio")
    need_keys(harness)
    headers = {"Authorization": f"Bearer {key}"}
    job_id = (harness.client.post("/v1/jobs", json={"prompt": "rain"}, headers=headers).json or {})["id"]
    harness.succeed(job_id)
    job = harness.client.get(f"/v1/jobs/{job_id}", headers=headers).json or {}
    url = job["artifacts"][0]["url"]
    assert "tenant=studio" in url
    assert harness.client.get(url).data == b"0123456789"
    assert harness.client.head(url).status_code == 200
    plain = url.partition("?")[0]
    assert harness.client.get(plain).status_code == 401
    assert harness.client.get(plain, headers=headers).status_code == 200
    assert harness.client.get(url.replace("tenant=studio", "tenant=default")).status_code == 403
    assert harness.client.get(url.replace("tenant=studio&", "")).status_code == 403
    other = {"Authorization": f"Bearer {new_key(harness, tenant='other')}"}
    assert harness.client.get(plain, headers=other).status_code == 404


def test_an_upload_is_sent_to_its_signed_link_without_a_key(harness: Harness) -> None:
    need_keys(harness)
    headers = {"Authorization": f"Bearer {new_key(harness, tenant='studio')}"}
    announced = harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}, headers=headers).json
    url = (announced or {})["upload"]["url"]
    assert harness.client.put(url.replace("tenant=studio", "tenant=other"), data=b"video").status_code == 403
    assert harness.client.put(url.partition("?")[0], data=b"video").status_code == 401
    assert harness.client.put(url, data=b"video").status_code == 204


def test_only_admins_see_workers_and_other_tenants_numbers(harness: Harness) -> None:
    harness.add_worker()
    harness.submit()
    mine = {"Authorization": f"Bearer {new_key(harness, tenant='studio')}"}
    admin = {"Authorization": f"Bearer {new_key(harness, ADMIN, tenant='studio')}"}
    workers = harness.client.get("/v1/workers", headers=mine).json or {}
    assert (workers["data"], sum(workers["counts"].values())) == ([], 1)
    assert len((harness.client.get("/v1/workers", headers=admin).json or {})["data"]) == 1
    assert (harness.client.get("/v1/queue", headers=mine).json or {})["queued"] == 0
    assert (harness.client.get("/v1/queue", headers=admin).json or {})["queued"] == 1
    assert harness.client.post("/v1/workers/w1/drain", headers=mine).status_code == 403
    assert harness.client.post("/v1/workers/w1/drain", headers=admin).status_code == 202
    audit = harness.client.get("/v1/audit", headers=admin).json or {}
    assert audit["data"][0]["action"] == "worker.drain"
    assert audit["data"][0]["actor"].startswith("key:key_")


def test_a_key_is_made_shown_once_rotated_and_revoked(harness: Harness) -> None:
    created = harness.client.post("/v1/api-keys", json={"name": "ci", "scopes": ["jobs:read"], "tenant": "studio"})
    key = created.json or {}
    assert (created.status_code, created.headers["Cache-Control"]) == (201, "no-store")
    assert created.headers["Location"] == f"/v1/api-keys/{key['id']}?tenant=studio"
    shown = harness.client.get(created.headers["Location"]).json or {}
    assert shown == {name: value for name, value in key.items() if name != "key"}
    assert (harness.client.get("/v1/api-keys?tenant=studio").json or {})["data"] == [shown]
    assert harness.client.get(f"/v1/api-keys/{key['id']}").status_code == 404
    assert get(harness.client, f"Bearer {key['key']}").status_code == 200
    rotated = harness.client.post(f"/v1/api-keys/{key['id']}/rotate?tenant=studio", json={})
    assert rotated.status_code == 201
    new = rotated.json or {}
    assert get(harness.client, f"Bearer {key['key']}").status_code == 401
    assert harness.client.delete(f"/v1/api-keys/{new['id']}?tenant=studio").status_code == 204
    assert get(harness.client, f"Bearer {new['key']}").status_code == 401
    again = harness.client.post(f"/v1/api-keys/{new['id']}/rotate?tenant=studio", json={"grace_s": 5})
    assert (again.status_code, (again.json or {})["code"]) == (409, "api_key_inactive")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["all"]}, "scopes.0"),
        ({"scopes": ["admin"], "tenant": "a b"}, "tenant"),
        ({"scopes": ["admin"], "tenant": "a\n"}, "tenant"),
        ({"scopes": ["admin"], "expires_at": "2026-02-01T00:00:00"}, "expires_at"),
        ({"scopes": ["admin"], "expires_at": "2025-01-01T00:00:00Z"}, "expires_at"),
        ({"scopes": ["admin"], "key": "x"}, "key"),
    ],
)
def test_what_is_wrong_with_a_new_key_names_the_field(harness: Harness, body: dict[str, Any], field: str) -> None:
    answer = harness.client.post("/v1/api-keys", json=body)
    assert (answer.status_code, (answer.json or {})["errors"][0]["field"]) == (422, field)
