"""What a client does while its server is away for a minute: it waits, says so once, and goes on."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from mmaudio_client import ApiError, Client, DownloadError, UnavailableError, UnreachableError, WaitTimeoutError
from mmaudio_client.cli.exit_codes import ExitCode
from mmaudio_client.cli.job_view import follow
from mmaudio_client.outage import DEFAULT_PATIENCE_S
from mmaudio_client.transport import TRIES
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    MORE_THAN_PATIENCE,
    SOUND,
    URL,
    Answer,
    ScriptedServer,
    job,
    job_answer,
    problem,
    sound,
    upload_answer,
    upload_document,
)

DONE = job("succeeded")
HALF = len(SOUND) // 2


class Cut(httpx.SyncByteStream):
    """The beginning of an answer, then a reset."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx.ReadError("Connection reset by peer")


AWAY: dict[str, Callable[[], Answer]] = {
    "refused": lambda: httpx.ConnectError("[Errno 111] Connection refused"),
    "dns": lambda: httpx.ConnectError("[Errno -3] Temporary failure in name resolution"),
    "no route": lambda: httpx.ConnectTimeout("timed out"),
    "reset": lambda: httpx.ReadError("Connection reset by peer"),
    "closed": lambda: httpx.RemoteProtocolError("Server disconnected without sending a response."),
    "reset in the middle": lambda: httpx.Response(200, stream=Cut(b'{"id": "job_1", "st')),
    "half an answer": lambda: httpx.Response(200, content=b'{"id": ', headers={"Content-Type": "application/json"}),
    "502": lambda: httpx.Response(502, html="<h1>Bad Gateway</h1>"),
    "503": lambda: problem(503, "database_unavailable", headers={"Retry-After": "5"}),
    "504": lambda: httpx.Response(504),
    "no such backend": lambda: httpx.Response(404, text="404 page not found"),
    "maintenance page": lambda: httpx.Response(200, html="<h1>Back soon</h1>"),
}
away = pytest.mark.parametrize("kind", AWAY)


class Outage:
    """A server that is away from `at_s` on for a while, by the pauses of its client."""

    def __init__(self, server: ScriptedServer, kind: str, *, lasts_s: float, then: Answer) -> None:
        self._server, self._kind, self._then = server, kind, then
        self._end = sum(server.naps) + lasts_s
        server.answers.append(self)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        back = sum(self._server.naps) >= self._end
        answer = self._then if back else AWAY[self._kind]()
        if not back:
            self._server.answers.insert(0, self)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)


def known(client: Client, server: ScriptedServer) -> Client:
    """A client that its server has answered before."""
    server.answers.append(job_answer())
    client.get(JOB_ID)
    server.requests.clear()
    return client


@away
def test_waiting_goes_on_over_a_minute_without_a_server(server: ScriptedServer, kind: str) -> None:
    client = known(server.client(), server)
    Outage(server, kind, lasts_s=60, then=job_answer("succeeded"))
    assert client.wait(JOB_ID if kind == "refused" else job()).state == "succeeded"
    assert 60 <= sum(server.naps) < 75
    assert len(server.requests) < 30


@away
def test_watching_goes_on_over_a_minute_without_a_server(server: ScriptedServer, kind: str) -> None:
    client = known(server.client(), server)
    Outage(server, kind, lasts_s=60, then=job_answer("succeeded"))
    assert [found.state for found in client.watch(job("running"))] == ["running", "succeeded"]


@away
def test_a_job_is_submitted_once_over_a_minute_without_a_server(server: ScriptedServer, kind: str) -> None:
    client = known(server.client(), server)
    Outage(server, kind, lasts_s=60, then=job_answer())
    assert client.submit(prompt="rain").state == "queued"
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1


@pytest.mark.parametrize("kind", ["refused", "reset", "502", "503"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_file_is_uploaded_over_a_minute_without_a_server(server: ScriptedServer, kind: str, method: str) -> None:
    video = b"0123456789" * 100_000
    server.answers = [httpx.Response(201, json=upload_document(method, "https://store.example/x"))]
    sent: list[bytes] = []

    def receive(request: httpx.Request) -> httpx.Response:
        sent.append(request.read())
        return httpx.Response(204)

    Outage(server, kind, lasts_s=60, then=receive)
    assert server.client().upload(video) == "upl_1"
    assert (video in sent[0], len(sent)) == (True, 1)


@pytest.mark.parametrize(("state", "whole"), [("ready", True), ("pending", False)])
def test_an_upload_whose_answer_was_lost_is_done_if_the_server_has_it(
    server: ScriptedServer, state: str, whole: bool
) -> None:
    complete = problem(409, "upload_complete", "Upload upl_1 is already complete.")
    server.answers = [upload_answer(), httpx.ReadError("reset"), complete, upload_answer(state=state)]
    if whole:
        assert server.client().upload(b"video") == "upl_1"
    else:
        with pytest.raises(ApiError, match="already complete"):
            server.client().upload(b"video")
    assert server.asked[1:] == [
        f"PUT {URL}/v1/uploads/upl_1/content?signature=x",
        f"PUT {URL}/v1/uploads/upl_1/content?signature=x",
        f"GET {URL}/v1/uploads/upl_1",
    ]


def rest(request: httpx.Request) -> httpx.Response:
    """The part of the sound that was asked for."""
    start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    span = f"bytes {start}-{len(SOUND) - 1}/{len(SOUND)}"
    return httpx.Response(206, content=SOUND[start:], headers={"Content-Range": span})


@pytest.mark.parametrize("kind", ["refused", "reset", "502", "503"])
def test_a_download_goes_on_where_it_broke_off(server: ScriptedServer, tmp_path: Path, kind: str) -> None:
    server.answers = [httpx.Response(200, stream=Cut(SOUND[:HALF]))]
    Outage(server, kind, lasts_s=60, then=rest)
    (path,) = server.client().download(DONE, tmp_path)
    assert path.read_bytes() == SOUND
    assert [request.headers.get("Range") for request in server.requests[:2]] == [None, f"bytes={HALF}-"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "answer",
    [
        sound(),  # knows no ranges
        httpx.Response(206, content=SOUND[100:], headers={"Content-Range": f"bytes 100-{len(SOUND) - 1}/{len(SOUND)}"}),
    ],
)
def test_a_download_takes_the_part_that_the_server_gives(
    server: ScriptedServer, tmp_path: Path, answer: httpx.Response
) -> None:
    server.answers = [httpx.Response(200, stream=Cut(SOUND[:HALF])), answer]
    (path,) = server.client().download(DONE, tmp_path)
    assert path.read_bytes() == SOUND


@pytest.mark.parametrize(
    "second",
    [
        httpx.Response(206, content=bytes(HALF), headers={"Content-Range": f"bytes {HALF}-{len(SOUND) - 1}/x"}),
        httpx.Response(416, headers={"Content-Range": "bytes */3"}),
    ],
)
def test_a_download_whose_parts_do_not_fit_begins_again(
    server: ScriptedServer, tmp_path: Path, second: httpx.Response
) -> None:
    server.answers = [httpx.Response(200, stream=Cut(SOUND[:HALF])), second, sound()]
    (path,) = server.client().download(DONE, tmp_path)
    assert path.read_bytes() == SOUND
    assert "Range" not in server.requests[2].headers


def test_a_download_of_which_only_the_end_of_the_answer_was_lost_is_done(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [httpx.Response(200, stream=Cut(SOUND))]
    (path,) = server.client().download(DONE, tmp_path)
    assert (path.read_bytes(), len(server.requests)) == (SOUND, 1)


def test_a_download_that_stays_broken_leaves_no_file(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [httpx.Response(200, stream=Cut(SOUND[:HALF])), *[httpx.Response(502)] * MORE_THAN_PATIENCE]
    with pytest.raises(DownloadError, match=r"audio\.flac was interrupted.+tried \d+ times in 180 s"):
        server.client().download(DONE, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_long_transfer_that_breaks_does_not_use_up_the_patience(server: ScriptedServer, tmp_path: Path) -> None:
    now = 0.0

    def slow(start: int, end: int) -> Callable[[httpx.Request], httpx.Response]:
        def answer(request: httpx.Request) -> httpx.Response:
            nonlocal now
            now += 3600
            span = {"Content-Range": f"bytes {start}-{len(SOUND) - 1}/{len(SOUND)}"} if start else {}
            content = SOUND[start:end]
            stream = Cut(content) if end < len(SOUND) else httpx.ByteStream(content)
            return httpx.Response(206 if start else 200, stream=stream, headers=span)

        return answer

    edges = [0, HALF // 2, HALF, len(SOUND)]
    server.answers = [slow(start, end) for start, end in itertools.pairwise(edges)]
    (path,) = server.client(clock=lambda: now).download(DONE, tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DONE.artifacts[0].sha256


def test_python_is_told_once_for_each_outage_by_a_warning(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = server.client()
    refused = [httpx.ConnectError("[Errno 111] Connection refused") for _ in range(6)]
    server.answers = [job_answer(), *refused[:3], job_answer("running"), *refused[3:], job_answer("succeeded")]
    with caplog.at_level(logging.INFO, "mmaudio_client"):
        client.wait(JOB_ID)
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name.startswith("mmaudio")]
    warning = (
        "WARNING",
        f"Cannot connect to {URL}: Connection refused. Trying again for up to 180 s; submitted jobs continue.",
    )
    assert told == [warning, ("INFO", "The server answers again.")] * 2


def test_the_patience_is_what_was_asked_for(server: ScriptedServer) -> None:
    client = known(server.client(patience_s=600), server)
    Outage(server, "refused", lasts_s=500, then=job_answer("succeeded"))
    assert client.wait(JOB_ID).state == "succeeded"
    impatient = known(server.client(patience_s=0), server)
    server.answers = [httpx.ConnectError("refused")]
    with pytest.raises(UnreachableError, match=r"Cannot connect to [^(]+$"):
        impatient.get(JOB_ID)


@pytest.mark.parametrize("patience_s", [-1, math.nan, math.inf])
def test_a_patience_that_is_none_is_refused(patience_s: float) -> None:
    with pytest.raises(ValueError, match="Got patience_s="):
        Client(URL, patience_s=patience_s)


def test_an_address_that_never_answered_is_given_up_soon_unless_patience_was_asked_for(server: ScriptedServer) -> None:
    server.answers = [httpx.ConnectError("refused")] * TRIES
    with pytest.raises(UnreachableError):
        server.client().get(JOB_ID)
    assert sum(server.naps) < 10 < DEFAULT_PATIENCE_S
    Outage(server, "refused", lasts_s=50, then=job_answer())
    assert server.client(patience_s=60).get(JOB_ID).state == "queued"


def test_retry_after_zero_is_no_busy_loop(server: ScriptedServer) -> None:
    server.answers = [*(httpx.Response(503, headers={"Retry-After": "0"}) for _ in range(8)), job_answer()]
    server.client().get(JOB_ID)
    assert min(server.naps) >= 0.25
    assert sum(server.naps[4:]) > 15


def test_the_time_of_a_wait_counts_on_in_an_outage(server: ScriptedServer) -> None:
    now = 0.0
    client = known(server.client(clock=lambda: now), server)
    server.answers = [job_answer("running"), *[httpx.ConnectError("refused")] * MORE_THAN_PATIENCE]

    def time() -> float:
        return sum(server.naps)

    with pytest.raises(WaitTimeoutError, match=r"was running when it was last seen; 45 s are over\. Cannot connect"):
        client.wait(JOB_ID, timeout_s=45, clock=time)
    assert sum(server.naps) == pytest.approx(45)


def test_an_outage_longer_than_the_patience_ends_a_wait_with_more_time(server: ScriptedServer) -> None:
    client = known(server.client(patience_s=20), server)
    server.answers = [*[httpx.ConnectError("refused")] * MORE_THAN_PATIENCE]
    with pytest.raises(UnavailableError, match=f"Job {JOB_ID} continues"):
        client.wait(job(), timeout_s=3600, clock=lambda: sum(server.naps))


def test_a_server_that_answers_every_poll_at_once_is_not_asked_without_pause(server: ScriptedServer) -> None:
    busy = job_answer("running")
    busy.headers["Retry-After"] = "3"
    server.answers = [*[job_answer("running")] * 9, busy, job_answer("succeeded")]
    assert server.client(clock=lambda: 0.0).wait(job()).state == "succeeded"
    assert server.naps == [1.0] * 9 + [3.0]


def test_a_poll_that_lasted_is_followed_by_the_next_at_once(server: ScriptedServer) -> None:
    now = 0.0

    def lasting(request: httpx.Request) -> httpx.Response:
        nonlocal now
        now += float(request.url.params["wait"])
        return job_answer("running")

    server.answers = [lasting, lasting, job_answer("succeeded")]
    server.client(clock=lambda: now).wait(job())
    assert server.naps == []


def test_the_command_says_once_that_the_server_is_away_and_goes_on(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("running")]
    Outage(server, "refused", lasts_s=60, then=job_answer("succeeded"))
    result = mmaudio("watch", JOB_ID)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"{JOB_ID}: sample",
        "Cannot connect to http://127.0.0.1:8000: Connection refused. "
        "Trying again for up to 180 s; submitted jobs continue.",
        f"{JOB_ID}: succeeded",
    ]


def test_as_json_the_outage_is_a_notice(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("running"), *[httpx.ConnectError("refused")] * 3, job_answer("succeeded")]
    result = mmaudio("watch", JOB_ID, "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (0, "succeeded")
    assert json.loads(result.stderr)["notice"]["code"] == "server_unavailable"


def test_a_batch_goes_on_over_an_outage_and_says_so_once(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"video")
    ids = ["job_" + "a" * 32, "job_" + "b" * 32]
    for job_id in ids:
        server.answers += [upload_answer(), httpx.Response(204), job_answer(id=job_id)]
    server.answers += [httpx.ConnectError("refused")] * 8
    for job_id in ids:
        server.answers += [job_answer("succeeded", id=job_id), sound()]
    result = mmaudio("submit", "a.mp4", "b.mp4")
    assert (result.exit_code, result.stdout.splitlines()) == (0, ["a.flac", "b.flac"])
    assert result.stderr.count("Cannot connect") == 1


def test_the_patience_of_the_command_holds_from_the_first_call_on(mmaudio: Command, server: ScriptedServer) -> None:
    Outage(server, "refused", lasts_s=50, then=job_answer("succeeded"))
    assert mmaudio("watch", JOB_ID, "--patience", "90").exit_code == 0
    server.answers = [job_answer("running"), httpx.ConnectError("refused")]
    assert mmaudio("watch", JOB_ID, "--patience", "0").exit_code == ExitCode.UNREACHABLE


def test_a_server_that_stays_away_has_its_exit_code_and_the_way_to_watch_again(
    mmaudio: Command, server: ScriptedServer
) -> None:
    server.answers = [job_answer("running"), *[httpx.ConnectError("refused")] * MORE_THAN_PATIENCE]
    result = mmaudio("watch", JOB_ID)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert f"Job {JOB_ID} continues. Follow it: mmaudio watch {JOB_ID}" in result.stderr


def test_ctrl_c_in_an_outage_prints_the_job_and_how_to_watch_it_again(server: ScriptedServer) -> None:
    def interrupt(pause: float) -> None:
        raise KeyboardInterrupt

    server.answers = [httpx.ConnectError("refused")]
    client = Client(URL, transport=httpx.MockTransport(server), sleep=interrupt)
    with client, pytest.raises(KeyboardInterrupt, match=f"The job continues. Follow it: mmaudio watch {JOB_ID}"):
        follow(client, job("running"), quiet=True)


def test_ctrl_c_in_a_download_says_how_to_save_the_files(mmaudio: Command, server: ScriptedServer) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.answers = [job_answer(), job_answer("succeeded"), interrupt]
    result = mmaudio("submit", "--prompt", "rain")
    assert result.exit_code == ExitCode.INTERRUPTED
    assert f"Save its files: mmaudio download {JOB_ID}" in result.stderr


def test_ctrl_c_before_the_job_is_confirmed_says_so(mmaudio: Command, server: ScriptedServer) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.answers = [interrupt]
    result = mmaudio("submit", "--prompt", "rain")
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "`mmaudio list` shows whether it was created" in result.stderr
