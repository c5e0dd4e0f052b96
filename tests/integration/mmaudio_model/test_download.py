"""Fetching files from a hub over HTTP: into a folder and into the cache, through breaks, lies and full disks."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from huggingface_hub import constants

from mmaudio_model.checkpoints import download
from mmaudio_model.checkpoints.download import ATTEMPTS, fetch_file
from mmaudio_model.checkpoints.files import find_file
from mmaudio_model.checkpoints.published import CLIP, MMAUDIO_REPOSITORY, REVISIONS, VAE, PublishedFile
from mmaudio_model.errors import WeightsDownloadError
from tests.integration.mmaudio_model.hub import Hub, running_hub

CONTENT = bytes(range(256)) * 1000
BREAK = 100_000


def published(content: bytes = CONTENT) -> PublishedFile:
    return replace(VAE["16k"], size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(download, "CHUNK_BYTES", 10_000)  # what is kept is whole chunks
        monkeypatch.setattr(download, "PAUSE_S", 0.0)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "nowhere")
        hub.contents["ext_weights/v1-16.pth"] = CONTENT
        yield hub


@pytest.fixture(params=["folder", "cache"])
def weights_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "weights" if request.param == "folder" else None


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_at_the_pinned_revision(hub: Hub, weights_dir: Path | None) -> None:
    path = fetch_file(published(), weights_dir)

    assert path.read_bytes() == CONTENT
    assert path == find_file(published(), weights_dir)
    assert hub.revisions == {REVISIONS[MMAUDIO_REPOSITORY]}


def test_a_folder_holds_the_file_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    fetch_file(published(), tmp_path / "weights")

    assert files_in(tmp_path / "weights") == ["ext_weights/v1-16.pth"]


def test_a_file_of_another_repository_lies_under_its_own_name(hub: Hub, tmp_path: Path) -> None:
    hub.contents["open_clip_pytorch_model.bin"] = CONTENT
    file = replace(CLIP, size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())

    assert fetch_file(file, tmp_path) == tmp_path / "ext_weights" / "open_clip_pytorch_model.bin"


def test_a_broken_connection_is_taken_up_again_where_it_broke(hub: Hub, weights_dir: Path | None) -> None:
    hub.faults = [BREAK]

    assert fetch_file(published(), weights_dir).read_bytes() == CONTENT
    assert hub.ranges == ["", f"bytes={BREAK}-"]


def test_a_later_attempt_goes_on_from_what_an_earlier_one_left(hub: Hub, weights_dir: Path | None) -> None:
    hub.faults = [BREAK, *["500"] * (ATTEMPTS - 1)]
    with pytest.raises(WeightsDownloadError, match=r"v1-16\.pth could not .* hkchengrex/MMAudio: .* answered 500"):
        fetch_file(published(), weights_dir)
    assert find_file(published(), weights_dir) is None
    hub.ranges.clear()

    assert fetch_file(published(), weights_dir).read_bytes() == CONTENT
    assert hub.ranges == [f"bytes={BREAK}-"]


def test_a_wrong_checksum_leaves_nothing_under_the_files_name(hub: Hub, weights_dir: Path | None) -> None:
    hub.contents["ext_weights/v1-16.pth"] = b"something else" * 1000
    with pytest.raises(WeightsDownloadError, match=r"checksum is not the published one; it was deleted"):
        fetch_file(published(), weights_dir)
    assert find_file(published(), weights_dir) is None
    hub.contents["ext_weights/v1-16.pth"] = CONTENT

    assert fetch_file(published(), weights_dir).read_bytes() == CONTENT


def test_a_file_that_differs_is_replaced_only_by_the_right_one(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / VAE["16k"].path
    path.parent.mkdir()
    path.write_bytes(b"mine")
    hub.faults = ["403"]
    with pytest.raises(WeightsDownloadError):
        fetch_file(published(), tmp_path)
    assert path.read_bytes() == b"mine"

    assert fetch_file(published(), tmp_path).read_bytes() == CONTENT


def test_a_part_of_another_file_is_found_out(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / f"{VAE['16k'].path}.part"
    part.parent.mkdir()
    for content in (b"x" * BREAK, CONTENT + b"x"):  # the second one is longer than what can be asked for
        part.write_bytes(content)
        with pytest.raises(WeightsDownloadError, match="checksum"):
            fetch_file(published(), tmp_path)
        assert files_in(tmp_path) == []


def test_a_server_without_ranges_sends_it_all_again(hub: Hub, tmp_path: Path) -> None:
    hub.knows_ranges = False
    hub.faults = [BREAK]

    assert fetch_file(published(), tmp_path).read_bytes() == CONTENT


def test_bytes_are_counted_on_from_what_was_there(hub: Hub, tmp_path: Path) -> None:
    counts: list[int] = []
    hub.faults = [BREAK]
    fetch_file(published(), tmp_path, on_bytes=counts.append)

    assert counts == sorted(counts)
    assert counts[-1] == len(CONTENT)


def test_two_processes_do_not_write_the_same_file(hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / VAE["16k"].path
    target.parent.mkdir()
    with (
        FileLock(f"{target}.lock", is_singleton=False),
        pytest.raises(WeightsDownloadError, match="another process"),
    ):
        fetch_file(published(), tmp_path)
    assert not hub.ranges


def test_a_file_that_the_hub_does_not_have_is_said_so(hub: Hub, weights_dir: Path | None) -> None:
    hub.contents.clear()

    with pytest.raises(WeightsDownloadError, match=r"could not be fetched from hkchengrex/MMAudio: .*404"):
        fetch_file(published(), weights_dir)


def test_nobody_is_asked_offline(hub: Hub, weights_dir: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(WeightsDownloadError, match="HF_HUB_OFFLINE is set"):
        fetch_file(published(), weights_dir)
    assert not hub.ranges


def test_an_unreachable_hub_is_said_so(weights_dir: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")

    with pytest.raises(WeightsDownloadError, match=r"v1-16\.pth could not be fetched.*refused"):
        fetch_file(published(), weights_dir)


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=1000))

    with pytest.raises(WeightsDownloadError, match=r"needs 0\.0 GB, and there is not enough space in"):
        fetch_file(published(), tmp_path)
    assert not hub.ranges


def test_a_disk_that_fills_up_meanwhile_is_said_so(
    hub: Hub, weights_dir: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_append", fill_up)

    with pytest.raises(WeightsDownloadError, match=r"not enough space in .*the download is resumed"):
        fetch_file(published(), weights_dir)


def test_a_folder_that_cannot_be_written_is_said_so(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "weights").touch()

    with pytest.raises(WeightsDownloadError, match=r"cannot be written to .*weights"):
        fetch_file(published(), tmp_path / "weights")
