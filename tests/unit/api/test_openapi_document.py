"""`docs/openapi.json` is the document that the API serves."""

from __future__ import annotations

import json
from pathlib import Path

from api.openapi_document import openapi_text

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_committed_document_is_the_served_one() -> None:
    assert COMMITTED.read_text() == openapi_text(), "run: make openapi"


def test_the_document_is_of_openapi_3_1() -> None:
    assert json.loads(COMMITTED.read_text())["openapi"].startswith("3.1")
