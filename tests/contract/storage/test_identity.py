"""The marker that ties a store to its database: who gets it, who is refused, and what is left alone."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.db.database import Database
from jobs.db.tables import PlatformIdentity, Upload
from jobs.service.uploads import announce_upload, mark_upload_checked
from jobs.settings import Settings
from jobs.storage.errors import StorageUnavailableError
from jobs.storage.identity import MARKER_KEY, StoreMismatchError, Tie, check_identity, claim_store, examine_identity
from jobs.storage.local import LocalStore
from jobs.storage.presence import object_exists
from jobs.storage.protocol import ObjectStore
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store
from tests.databases import migrated_sqlite
from workers.maintenance.control import Control


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[tuple[Database, Database]]:
    """Two platforms' databases."""
    pair = tuple(Database(migrated_sqlite(tmp_path / name / "mmaudio.db")).of_platform() for name in ("ours", "theirs"))
    yield pair[0], pair[1]
    for database in pair:
        database.close()


def put(store: ObjectStore, key: str, content: bytes = b"sound") -> None:
    store.put_stream(key, io.BytesIO(content), content_type="audio/flac", max_bytes=100)


def upload(db: Database, store: ObjectStore | None, *, ttl_s: int = 3600) -> str:
    """Make the row of a checked upload, and its object if there is a store; return its key."""
    with db.of_tenant("t").transaction() as tx:
        row = announce_upload(tx, filename="v", content_type="video/mp4", size_bytes=5, sha256=None, ttl_s=ttl_s)
        mark_upload_checked(tx, row.id)
    if store is not None:
        put(store, row.storage_key)
    return row.storage_key


def test_an_empty_store_gets_the_marker_of_the_first_database(
    databases: tuple[Database, Database], store: ObjectStore
) -> None:
    ours, theirs = databases
    assert examine_identity(ours, store).tie is Tie.CLAIMABLE
    assert list(store.list_keys("")) == []
    check_identity(ours, store)
    check_identity(ours, store)
    with ours.reading() as tx:
        row = tx.session.get_one(PlatformIdentity, 1)
    document = json.loads(b"".join(store.open_read(MARKER_KEY)))
    assert (document["platform_id"], document["store"]) == (row.platform_id, store.location)
    assert row.bound_at is not None
    with pytest.raises(StoreMismatchError, match=f"names {row.platform_id}, the database is new"):
        check_identity(theirs, store)


def test_of_databases_that_start_at_once_one_gets_the_store(
    databases: tuple[Database, Database], store: ObjectStore
) -> None:
    outcomes: list[tuple[int, str]] = []
    barrier = threading.Barrier(8)

    def start(number: int) -> None:
        barrier.wait()
        try:
            claim_store(databases[number % 2], store)
            outcomes.append((number % 2, "got it"))
        except StoreMismatchError:
            outcomes.append((number % 2, "refused"))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    by_database = {number: {outcome for one, outcome in outcomes if one == number} for number in (0, 1)}
    assert sorted(map(sorted, by_database.values())) == [["got it"], ["refused"]]


def test_an_installation_of_an_older_release_is_recognised_by_its_objects(
    databases: tuple[Database, Database], store: ObjectStore
) -> None:
    ours, _ = databases
    for _ in range(3):
        upload(ours, store)
    upload(ours, None)
    put(store, "jobs/job_0/1/audio.flac")
    found = examine_identity(ours, store)
    assert (found.tie, found.sample, found.found) == (Tie.CLAIMABLE, 4, 3)
    check_identity(ours, store)
    assert examine_identity(ours, store).tie is Tie.MATCHES


def test_rows_without_any_object_are_a_mismatch_and_no_marker_is_written(
    databases: tuple[Database, Database], store: ObjectStore
) -> None:
    ours, _ = databases
    upload(ours, None)
    with pytest.raises(StoreMismatchError, match=r"has no platform.json, and the objects of 0 of 1 rows"):
        check_identity(ours, store)
    assert list(store.list_keys("")) == []


def test_a_lost_marker_is_written_again_where_the_objects_are_there(
    databases: tuple[Database, Database], store: ObjectStore
) -> None:
    ours, _ = databases
    check_identity(ours, store)
    store.delete([MARKER_KEY])
    with pytest.raises(StoreMismatchError, match="the database has had a store with one"):
        check_identity(ours, store)
    upload(ours, store)
    check_identity(ours, store)
    assert examine_identity(ours, store).tie is Tie.MATCHES


def test_a_store_with_objects_of_others_is_neither_taken_nor_refused(
    databases: tuple[Database, Database], store: ObjectStore
) -> None:
    ours, _ = databases
    put(store, "jobs/job_0/1/audio.flac")
    check_identity(ours, store)
    assert MARKER_KEY not in list(store.list_keys(""))
    upload(ours, store)  # now there is proof that both belong together
    check_identity(ours, store)
    assert examine_identity(ours, store).tie is Tie.MATCHES


def test_expired_rows_prove_nothing(databases: tuple[Database, Database], store: ObjectStore) -> None:
    ours, _ = databases
    upload(ours, None, ttl_s=-60)
    check_identity(ours, store)
    assert examine_identity(ours, store).tie is Tie.MATCHES


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_marker_is_neither_ours_nor_absent(
    databases: tuple[Database, Database], store: ObjectStore, content: bytes
) -> None:
    put(store, MARKER_KEY, content)
    with pytest.raises(StorageUnavailableError):
        check_identity(databases[0], store)


def test_an_object_is_missing_only_if_a_listing_says_so(s3_endpoint: str, store: ObjectStore) -> None:
    put(store, "a/bc")
    assert object_exists(store, "a/bc")
    assert not object_exists(store, "a/b")
    assert not object_exists(store, "a")
    nowhere = S3Store("s3://no-such-bucket/p", ClientOptions(s3_endpoint, addressing_style="path"))
    with pytest.raises(StorageUnavailableError, match="no such bucket"):
        object_exists(nowhere, "a/b")


def test_maintenance_deletes_and_marks_nothing_in_another_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path / "data", broker_url="redis://127.0.0.1:1/0", feature_ttl_s=3600)
    db = Database(migrated_sqlite(tmp_path / "data" / "mmaudio.db")).of_platform()
    right = LocalStore(tmp_path / "data" / "objects")
    key = upload(db, right)
    check_identity(db, right)
    with db.transaction() as tx:
        tx.session.get_one(Upload, key.split("/")[1]).expires_at = tx.now - timedelta(days=1)
    foreign = LocalStore(tmp_path / "foreign")
    put(foreign, "features/00000001/a")
    put(foreign, key)
    wrong = Control(settings.model_copy(update={"storage_url": f"file://{tmp_path}/foreign"}), threading.Event())
    with pytest.raises(StoreMismatchError):
        wrong.prune_once()
    with caplog.at_level(logging.ERROR):
        wrong._leads.set()
        wrong._guarded("prune", wrong._prune)
        wrong._guarded("features", wrong._expire_features)
    assert [record.message.split(": the folder")[0] for record in caplog.records] == [
        "prune: nothing is deleted",
        "features: nothing is deleted",
    ]
    assert "platform.json" in caplog.text
    wrong.close()
    assert sorted(foreign.list_keys("")) == ["features/00000001/a", key]
    control = Control(settings, threading.Event())
    assert control.prune_once().uploads == 1
    control.close()
    db.close()
