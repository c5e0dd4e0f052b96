"""Before its first call the API proves that its store is the one of its database."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.bounded_store import Proof
from jobs.settings import Settings
from jobs.storage.identity import MARKER_KEY
from jobs.storage.local import LocalStore
from tests.databases import migrated_sqlite
from tests.unit.api.conftest import FakeBroker


def put(store: LocalStore, key: str, content: bytes) -> None:
    store.put_stream(key, io.BytesIO(content), content_type="application/json", max_bytes=len(content))


def test_an_api_whose_store_is_another_platforms_keeps_nothing_in_it(tmp_path: Path) -> None:
    database_url = migrated_sqlite(tmp_path / "mmaudio.db")
    store = LocalStore(tmp_path / "objects")
    put(store, MARKER_KEY, json.dumps({"platform_id": "plt_of_others"}).encode())
    settings = Settings(data_dir=tmp_path, database_url=database_url, variants=["tiny_16k"])
    client = create_app(settings, broker=FakeBroker()).test_client()
    announced: Any = client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json
    answer = client.put(announced["upload"]["url"], data=b"video")
    assert (answer.status_code, (answer.json or {})["code"]) == (503, "storage_unavailable")
    assert list(store.list_keys("")) == [MARKER_KEY]
    assert (client.get("/readyz").json or {})["checks"]["storage"] == "down"


def test_a_proof_is_made_once_when_it_succeeds_and_again_while_it_fails() -> None:
    made: list[bool] = []

    def check() -> None:
        made.append(True)
        if len(made) == 1:
            raise ValueError("not yet")

    proof = Proof(check)
    with pytest.raises(ValueError, match="not yet"):
        proof()
    proof()
    proof()
    assert len(made) == 2
