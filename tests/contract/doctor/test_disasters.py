"""What must never happen to a platform because somebody ran `mmaudio doctor --fix`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Artifact
from jobs.settings import Settings
from jobs.storage.identity import MARKER_KEY, check_identity
from jobs.storage.local import LocalStore
from local_services.faulty_http import Fault, FaultSchedule, faulty_proxy
from tests.contract.doctor.conftest import Harness
from tests.databases import migrated_sqlite

ALL_OPTIONS = (["--fix"], ["--fix", "--yes-all", "--delete-unknown"], [])


def wrong_url(harness: Harness, wrong: str) -> str:
    """Return the store's URL with a typo in a part of it."""
    url = Settings().storage_url
    if harness.store.backend == "local":
        return {"prefix": f"{url}s", "bucket": url.replace("/objects", "/abjects/objects")}[wrong]
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return {"prefix": f"s3://{bucket}/{prefix}s", "bucket": f"s3://{bucket}s/{prefix}"}[wrong]


def platform(harness: Harness, *, tied: bool) -> dict[str, Any]:
    for _ in range(12):
        harness.succeeded()
    harness.upload()
    harness.failed()
    if tied:
        check_identity(harness.db, harness.store)
    return harness.contents()


@pytest.mark.parametrize("wrong", ["prefix", "bucket"])
@pytest.mark.parametrize("tied", [True, False], ids=["marker", "older-release"])
def test_a_typo_in_the_store_changes_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, wrong: str, tied: bool
) -> None:
    before = platform(harness, tied=tied)
    url = wrong_url(harness, wrong)
    monkeypatch.setenv("MMAUDIO_STORAGE_URL", url)
    for options in ALL_OPTIONS:
        done = harness.doctor(*options)
        assert done.exit_code == 2, done.output
        assert "check failed: rows and objects, unfinished writes: could not look: " in done.stderr
        assert url.removeprefix("file://") in done.stderr or (wrong, harness.store.backend) == ("bucket", "s3")
        assert "artifact_missing" not in done.output
    assert harness.contents() == before
    assert harness.audited() == []


def test_a_store_of_another_platform_is_refused_and_left_alone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = platform(harness, tied=True)
    other = Database(migrated_sqlite(tmp_path / "other" / "mmaudio.db")).of_platform()
    monkeypatch.setenv("MMAUDIO_DATABASE_URL", f"sqlite:///{tmp_path}/other/mmaudio.db")
    for options in ALL_OPTIONS:
        done = harness.doctor(*options)
        assert done.exit_code == 2
        assert (
            f"is not the store of the database sqlite:///{tmp_path}/other/mmaudio.db: its platform.json" in done.stderr
        )
    assert harness.doctor("--adopt").exit_code == 2
    assert harness.contents() == before
    other.close()


def test_a_database_file_that_does_not_exist_is_not_made(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = platform(harness, tied=True)
    monkeypatch.setenv("MMAUDIO_DATABASE_URL", f"sqlite:///{tmp_path}/typo.db")
    done = harness.doctor("--fix")
    assert done.exit_code == 2
    assert "check failed: database: could not look: There is no database file" in done.stderr
    assert not (tmp_path / "typo.db").exists()
    assert harness.contents() == before


def test_a_lost_row_of_a_success_is_restored_and_its_object_kept(harness: Harness) -> None:
    harness.succeeded()
    harness.succeeded(deliver_to="s3://theirs/out/")
    before = harness.contents()
    assert "theirs" in str(before["artifacts"])
    for job_id in {row.split("'")[1] for row in before["artifacts"]}:
        harness.forget("artifacts", job_id)
    assert harness.contents()["artifacts"] == []
    keys = [key for key in before["keys"] if key.startswith("jobs/")]
    assert harness.found() == {"artifact_row_missing": keys}
    assert harness.found("--fix") == {"artifact_row_missing": keys}
    assert harness.contents() == before  # identical: expiry, seed, duration and delivered copy too
    assert sorted(harness.audited())[-2:] == [("restore_row", key, "fixed") for key in keys]
    assert harness.doctor().exit_code == 0


def test_an_object_of_a_success_without_a_description_is_reported_and_kept(harness: Harness) -> None:
    job_id = harness.succeeded()
    harness.forget("artifacts", job_id)
    path = harness.folder / "old.flac"
    path.write_bytes(b"sound")
    key = f"jobs/{job_id}/1/audio.flac"
    harness.store.delete([key])
    # As releases before the description stored it.
    harness.store.put_file(key, path, content_type="audio/flac", user_metadata={"mmaudio-job-id": job_id})
    before = harness.contents()
    for options in ALL_OPTIONS:
        done = harness.doctor(*options)
        assert done.exit_code == 1
        assert f"artifact_row_missing: {key}: made by the successful attempt" in done.stdout
        assert "an older release made it, so the row cannot be restored; the object is kept" in done.stdout
    assert harness.contents() == before


def test_an_artifact_that_was_marked_deleted_by_mistake_is_unmarked(harness: Harness) -> None:
    job_id, upload = harness.succeeded(), harness.upload()
    before = harness.contents()
    with harness.db.transaction() as tx:
        tx.session.get_one(Artifact, (job_id, "audio.flac")).deleted_at = tx.now
        tx.session.get_one(type(upload), upload.id).deleted_at = tx.now
    wanted = {"artifact_still_stored": [f"{job_id}/audio.flac"], "upload_still_stored": [upload.id]}
    assert harness.found() == wanted
    assert harness.found("--fix") == wanted
    assert harness.contents() == before


def test_objects_of_which_the_database_knows_nothing_are_kept(harness: Harness) -> None:
    lost = harness.succeeded()
    harness.succeeded()
    harness.forget("artifacts", lost)
    for table in ("job_events", "job_attempts", "jobs"):
        harness.forget(table, lost)
    keys = [f"jobs/{lost}/1/audio.flac", "jobs/archive/2019/a.flac", "jobs/notes.txt", "uploads/upl_0/content"]
    for key in keys[1:]:
        harness.put(key)
    before = harness.contents()
    for options in ([], ["--fix"], ["--fix", "--yes-all"]):
        done = harness.doctor(*options)
        assert done.exit_code == 1, done.output
        assert done.stdout.count("object_unknown: ") == 4
    assert harness.contents() == before
    # Asked for by name, only what is provably of a platform goes.
    assert harness.doctor("--fix", "--delete-unknown").exit_code == 1
    left = set(before["keys"]) - set(harness.contents()["keys"])
    assert left == {keys[0], keys[3]}
    assert sorted(harness.audited()[-2:]) == [("delete_object", key, "fixed") for key in (keys[0], keys[3])]


def test_the_empty_objects_that_mark_folders_do_not_end_the_check(harness: Harness) -> None:
    if harness.store.backend == "local":
        pytest.skip("a folder's folders are no objects")
    bucket = Settings().storage_url.removeprefix("s3://").partition("/")[0]
    boto3.client("s3", endpoint_url=Settings().s3_endpoint_url).put_object(Bucket=bucket, Key="p/jobs/")
    key = f"jobs/{harness.failed()}/1/audio.flac"
    assert harness.found() == {"object_unknown": ["jobs/"], "object_orphaned": [key]}


def test_a_bucket_full_of_other_objects_is_not_taken_and_not_emptied(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    platform(harness, tied=False)
    before = harness.contents()
    migrated_sqlite(tmp_path / "new" / "mmaudio.db")
    monkeypatch.setenv("MMAUDIO_DATABASE_URL", f"sqlite:///{tmp_path}/new/mmaudio.db")
    for options in (["--fix"], ["--fix", "--delete-unknown"], ["--fix", "--delete-unknown", "--yes-all"]):
        done = harness.doctor(*options)
        assert done.exit_code == 1
        assert "refused, nothing was repaired: " in done.stderr
        assert "holds objects of which the database" in done.stderr
    assert harness.contents() == before
    assert MARKER_KEY not in list(harness.store.list_keys(""))


def test_an_older_copy_of_the_database_deletes_no_newer_attempt(harness: Harness) -> None:
    queued, succeeded = harness.submit(), harness.succeeded()
    harness.put(f"jobs/{queued}/1/audio.flac")  # made after the copy
    before = harness.contents()
    done = harness.doctor("--fix", "--yes-all", "--delete-unknown")
    assert done.exit_code == 1
    assert "this database may be an older copy; it is kept" in done.stdout
    assert harness.contents() == before
    assert succeeded in str(before["keys"])


def test_a_success_without_artifacts_is_reported(harness: Harness) -> None:
    job_id = harness.succeeded()
    harness.succeeded()
    harness.forget("artifacts", job_id)
    harness.store.delete([f"jobs/{job_id}/1/audio.flac"])
    done = harness.doctor("--fix")
    assert done.exit_code == 1
    assert f"success_without_artifacts: {job_id}: " in done.stdout
    assert "mmaudio retry" in done.stdout
    assert done.stdout.endswith("1 inconsistency found, 0 fixed\n")


def test_a_folder_or_bucket_that_is_gone_is_not_an_empty_one(harness: Harness, tmp_path: Path) -> None:
    before = platform(harness, tied=True)
    if harness.store.backend == "local":
        root = Path(Settings().storage_url.removeprefix("file://"))
        root.rename(tmp_path / "unmounted")
    else:
        client, url = boto3.client("s3", endpoint_url=Settings().s3_endpoint_url), Settings().storage_url
        bucket = url.removeprefix("s3://").partition("/")[0]
        for key in harness.store.list_keys(""):
            client.delete_object(Bucket=bucket, Key=f"p/{key}")
        client.delete_bucket(Bucket=bucket)
    for options in ALL_OPTIONS:
        done = harness.doctor(*options)
        assert done.exit_code == 2
        assert "could not look" in done.stderr
    if harness.store.backend == "local":
        assert not root.exists()
        (tmp_path / "unmounted").rename(root)
        assert harness.contents() == before
    with harness.db.reading() as tx:
        assert all(row.deleted_at is None for row in tx.session.scalars(select(Artifact)))


def test_a_server_that_refuses_to_show_objects_does_not_make_them_missing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 403 is no 404: without a right to read, nothing is known about the objects."""
    if harness.store.backend == "local":
        pytest.skip("a folder has no such answers; see test_local.py for one that cannot be read")
    before = platform(harness, tied=True)
    schedule = FaultSchedule()
    endpoint = Settings().s3_endpoint_url
    assert endpoint is not None
    with faulty_proxy(endpoint, schedule) as url:
        monkeypatch.setenv("MMAUDIO_S3_ENDPOINT_URL", url)
        schedule.next_calls_fail("GET", *[Fault.FORBIDDEN] * 100)
        assert harness.doctor("--fix", "--yes-all").exit_code == 2
        schedule.planned.clear()
        schedule.next_calls_fail("HEAD", *[Fault.FORBIDDEN] * 100)
        assert harness.doctor("--fix", "--yes-all").exit_code == 2
    assert harness.contents() == before


def test_a_database_that_does_not_answer_is_said(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    before = platform(harness, tied=True)
    monkeypatch.setenv("MMAUDIO_DATABASE_URL", "postgresql+psycopg://u:secret@127.0.0.1:9/x")
    done = harness.doctor("--fix")
    assert done.exit_code == 2
    assert "check failed: database: could not look: " in done.stderr
    assert "secret" not in done.output
    assert "no inconsistencies found in what could be looked at" in done.stdout
    assert harness.contents() == before


def test_a_broker_that_is_not_known_is_said(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.succeeded()
    monkeypatch.setenv("MMAUDIO_BROKER_URL", "")
    done = harness.doctor()
    assert done.exit_code == 2
    assert "check failed: rows and queue: could not look: " in done.stderr


def test_a_store_that_fails_in_the_middle_stops_the_repairs(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = sorted(f"jobs/{harness.failed()}/1/audio.flac" for _ in range(3))
    check_identity(harness.db, harness.store)
    delete, deleted = type(harness.store).delete, []

    def delete_one(store: Any, doomed: Any) -> None:
        if deleted:
            raise OSError("I/O error")
        deleted.append(doomed)
        delete(store, doomed)

    monkeypatch.setattr(type(harness.store), "delete", delete_one)
    done = harness.doctor("--fix")
    assert done.exit_code == 2
    assert f"repairs stopped: {keys[1]}: I/O error" in done.stderr
    assert done.stdout.endswith("3 inconsistencies found, 1 fixed\n")
    assert harness.audited()[-2:] == [("delete_object", keys[0], "fixed"), ("delete_object", keys[1], "failed")]
    assert list(harness.store.list_keys("jobs/")) == keys[1:]


def test_several_takes_are_restored_each(harness: Harness) -> None:
    job_id = harness.submit(num_samples=2)
    claim = harness.claim(job_id)
    takes = [harness.store_artifact(claim, f"audio-{take + 1}.flac", take=take, seed=take) for take in (0, 1)]
    harness.complete(claim, *[replace(take) for take in takes])
    before = harness.contents()
    with harness.db.transaction() as tx:
        tx.session.delete(tx.session.get_one(Artifact, (job_id, "audio-2.flac")))
    assert harness.found("--fix") == {"artifact_row_missing": [f"jobs/{job_id}/1/audio-2.flac"]}
    assert harness.contents() == before


def test_a_volume_that_is_unmounted_during_the_checks_is_noticed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if harness.store.backend != "local":
        pytest.skip("a bucket is not mounted")
    before = platform(harness, tied=True)
    root = Path(Settings().storage_url.removeprefix("file://"))
    monkeypatch.setattr(LocalStore, "list_keys", unmounting(LocalStore.list_keys, root, tmp_path / "away"))
    done = harness.doctor("--fix", "--yes-all")
    monkeypatch.undo()
    assert done.exit_code == 2
    assert "has no platform.json" in done.stderr
    (tmp_path / "away").rename(root)
    assert harness.contents() == before


def unmounting(list_keys: Any, root: Path, away: Path) -> Any:
    """Return a listing before whose first call of jobs the folder goes away."""

    def listing(store: LocalStore, prefix: str) -> Any:
        if prefix == "jobs/" and root.exists():
            root.rename(away)
        return list_keys(store, prefix)

    return listing
