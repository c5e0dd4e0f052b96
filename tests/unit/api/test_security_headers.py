"""Every answer says that it may not be framed and what it may load."""

from __future__ import annotations

import re

import pytest

from tests.unit.api.conftest import Harness

PAGES = ["/", "/docs/swagger", "/docs/oauth2-redirect.html"]
OTHERS = ["/v1/jobs", "/openapi.json", "/docs/openapi.json", "/nothing", "/static/dashboard.js", "/healthz", "/docs"]


@pytest.mark.parametrize("path", [*PAGES, *OTHERS])
def test_no_answer_may_be_framed_or_load_from_elsewhere(harness: Harness, path: str) -> None:
    answer = harness.client.get(path)
    answer.close()
    policy = answer.headers["Content-Security-Policy"]

    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in policy
    assert policy.startswith("default-src 'none'")
    scripts = re.search(r"script-src ([^;]*)", policy)
    assert scripts is None or not re.search(r"unsafe|http|\*", scripts[1])


def test_every_inline_script_of_the_docs_is_allowed_by_its_hash(harness: Harness) -> None:
    answer = harness.client.get("/docs/swagger")
    assert answer.status_code == 200
    assert answer.text.count("<script>") == answer.headers["Content-Security-Policy"].count("'sha256-") == 1
    assert not re.search(r"\son\w+=", answer.text), "the policy allows no code in attributes"


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_index_of_the_docs_leads_to_them(harness: Harness, path: str) -> None:
    answer = harness.client.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs/swagger")
