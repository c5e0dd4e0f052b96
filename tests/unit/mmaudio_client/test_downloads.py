"""Files on their way back: each appears whole and checked under its name, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mmaudio_client import ApiError, ClientError, DownloadError
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    SOUND,
    URL,
    ScriptedServer,
    artifact_document,
    job,
    job_answer,
    problem,
    sound,
    upload_answer,
)

DONE = job("succeeded")
NAME = "rain.flac"


class Breaking(httpx.SyncByteStream):
    """Half a file, then an error."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield SOUND[: len(SOUND) // 2]
        raise self._error


def test_a_file_is_saved_whole_under_its_name(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [sound()]
    told: list[tuple[int, int]] = []
    paths = server.client().download(
        DONE, tmp_path / "new" / "folder", on_progress=lambda done, size: told.append((done, size))
    )
    assert paths == (tmp_path / "new" / "folder" / NAME,)
    assert paths[0].read_bytes() == SOUND
    assert [path.name for path in paths[0].parent.iterdir()] == [NAME]
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == (len(SOUND), len(SOUND))


def test_a_redirect_to_an_object_store_is_followed(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [httpx.Response(302, headers={"Location": "https://store.example/audio.flac?s=x"}), sound()]
    (path,) = server.client().download(DONE, tmp_path)
    assert path.read_bytes() == SOUND
    assert server.asked[1] == "GET https://store.example/audio.flac?s=x"


@pytest.mark.parametrize("came", [SOUND[:-1], SOUND + b"x", SOUND[:-1] + b"x", b""])
def test_other_bytes_than_the_job_says_leave_no_file(server: ScriptedServer, tmp_path: Path, came: bytes) -> None:
    server.answers = [sound(came)]
    with pytest.raises(DownloadError, match=rf"arrived damaged \({len(came)} of {len(SOUND)} bytes\)"):
        server.client().download(DONE, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [httpx.ReadError("reset"), httpx.ReadTimeout("")])
def test_a_download_that_breaks_leaves_no_half_file(server: ScriptedServer, tmp_path: Path, error: Exception) -> None:
    server.answers = [httpx.Response(200, stream=Breaking(error))]
    with pytest.raises(DownloadError, match=r"audio\.flac was interrupted"):
        server.client(patience_s=0).download(DONE, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_who_interrupts_a_download_finds_no_half_file(server: ScriptedServer, tmp_path: Path) -> None:
    def interrupt(done: int, size: int) -> None:
        raise KeyboardInterrupt

    server.answers = [sound()]
    with pytest.raises(KeyboardInterrupt):
        server.client().download(DONE, tmp_path, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [sound(b"damaged"), problem(410, "artifact_expired", "It has expired.")])
def test_a_file_that_is_there_already_survives_a_failed_download(
    server: ScriptedServer, tmp_path: Path, answer: httpx.Response
) -> None:
    (tmp_path / NAME).write_bytes(b"of yesterday")
    server.answers = [answer]
    with pytest.raises(ClientError):
        server.client().download(DONE, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: b"of yesterday"}


def test_no_file_is_replaced_and_a_damaged_download_takes_no_name(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"of yesterday")
    server.answers = [sound(b"damaged"), sound()]
    client = server.client()
    with pytest.raises(DownloadError):
        client.download(DONE, tmp_path)
    assert client.download(DONE, tmp_path) == (tmp_path / "rain-2.flac",)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        NAME: b"of yesterday",
        "rain-2.flac": SOUND,
    }


def test_what_is_there_already_is_not_fetched_again(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [sound()]
    client = server.client()
    told: list[tuple[int, int]] = []
    assert client.download(DONE, tmp_path) == client.download(
        DONE, str(tmp_path), on_progress=lambda done, size: told.append((done, size))
    )
    assert (len(server.requests), told) == (1, [(len(SOUND), len(SOUND))])
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_an_expired_file_that_was_saved_before_is_found(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(SOUND)
    expired = job("succeeded", artifacts=[artifact_document(url=None, expired=True)])
    assert server.client().download(expired, tmp_path) == (tmp_path / NAME,)


@pytest.mark.parametrize("taken", ["file", "folder", "dangling link"])
def test_a_name_that_is_taken_while_the_file_comes_is_not_replaced(
    server: ScriptedServer, tmp_path: Path, taken: str
) -> None:
    def meanwhile(done: int, size: int) -> None:
        if taken == "file":
            (tmp_path / NAME).write_bytes(b"someone else's")
        elif taken == "folder":
            (tmp_path / NAME).mkdir(exist_ok=True)
        elif not (tmp_path / NAME).is_symlink():
            (tmp_path / NAME).symlink_to("nowhere")

    server.answers = [sound()]
    (path,) = server.client().download(DONE, tmp_path, on_progress=meanwhile)
    assert (path.name, path.read_bytes()) == ("rain-2.flac", SOUND)
    assert len(list(tmp_path.iterdir())) == 2


def test_where_there_are_no_hard_links_no_file_is_replaced_either(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    def meanwhile(done: int, size: int) -> None:
        (tmp_path / NAME).write_bytes(b"someone else's")

    monkeypatch.setattr("os.link", no_links)
    server.answers = [sound(), sound()]
    (path,) = server.client().download(DONE, tmp_path / "a")
    assert (path.name, path.read_bytes()) == (NAME, SOUND)
    (path,) = server.client().download(DONE, tmp_path, on_progress=meanwhile)
    assert (path.name, path.read_bytes()) == ("rain-2.flac", SOUND)
    assert (tmp_path / NAME).read_bytes() == b"someone else's"


def test_two_downloads_into_one_folder_do_not_mix(server: ScriptedServer, tmp_path: Path) -> None:
    client = server.client()
    inner: list[Path] = []

    def meanwhile(done: int, size: int) -> None:
        if not inner:
            inner.extend(client.download(DONE, tmp_path))
            assert inner[0].read_bytes() == SOUND

    server.answers = [sound(), sound()]
    assert client.download(DONE, tmp_path, on_progress=meanwhile) == tuple(inner)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: SOUND}


def test_the_files_before_a_damaged_one_are_kept(server: ScriptedServer, tmp_path: Path) -> None:
    two = job("succeeded", artifacts=[artifact_document(), artifact_document("video.mp4")])
    server.answers = [sound(), sound(b"damaged")]
    with pytest.raises(DownloadError, match=r"video\.mp4"):
        server.client().download(two, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_an_expired_file_is_told_without_asking_for_it(server: ScriptedServer, tmp_path: Path) -> None:
    expired = job("succeeded", artifacts=[artifact_document(url=None, expired=True)])
    with pytest.raises(DownloadError, match="has expired"):
        server.client().download(expired, tmp_path)
    assert (server.requests, list(tmp_path.iterdir())) == ([], [])


def test_a_refused_download_carries_the_code_of_the_refusal(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [problem(403, "link_refused", "This link has expired.")]
    with pytest.raises(ApiError, match="This link has expired") as refused:
        server.client().download(DONE, tmp_path)
    assert (refused.value.code, list(tmp_path.iterdir())) == ("link_refused", [])


def test_a_redirect_that_leads_in_a_circle_is_given_up(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [httpx.Response(302, headers={"Location": "/again"}) for _ in range(50)]
    with pytest.raises(DownloadError, match="interrupted"):
        server.client().download(DONE, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_from_the_server_do_not_lead_out_of_the_folder(server: ScriptedServer, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    request = {"prompt": "", "video": "upl_1"}
    hostile = [artifact_document(f"{up}evil.flac", url="/x") for up in ("../../", "/", "../x/../../")]
    for number, name in enumerate(("../../evil", "/evil", "..\\..\\evil", "..", "x/../../evil", "")):
        server.answers = [upload_answer(filename=name), *(sound(SOUND + bytes([number])) for _ in hostile)]
        content = SOUND + bytes([number])
        files = [{**one, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)} for one in hostile]
        asked = job("succeeded", id="../../job_1", request=request, artifacts=files)
        paths = server.client().download(asked, folder)
        assert {path.resolve().parent for path in paths} == {folder}
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {folder}


def test_a_job_without_files_is_an_error(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [job_answer("running")]
    with pytest.raises(DownloadError, match="has no files: it is running"):
        server.client().download(JOB_ID, tmp_path)


def test_behind_a_path_the_files_are_there_too(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [sound()]
    server.client(f"{URL}/sounds/").download(DONE, tmp_path)
    assert server.requests[0].url.path == f"/sounds/v1/jobs/{JOB_ID}/artifacts/audio.flac"
