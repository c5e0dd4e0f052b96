"""Submits the ledger's requests and retries each until it is answered, as a careful caller does.

The tenant `default` uses the HTTP API. The others are submitted through the service, as a trigger does: the API has no
keys yet, so it knows only one tenant.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
from sqlalchemy.exc import SQLAlchemyError

from chaos.inbox_files import odd_names, put_file
from chaos.ledger import TENANTS, Entry, Kind, Ledger, inbox_entry, small_entry
from jobs.db.database import Database
from jobs.errors import JobEndedError
from jobs.request import JobRequest
from jobs.service.cancellation import cancel
from jobs.service.submission import Idempotency, SubmitPolicy, submit_and_commit
from mmaudio_client.client import Client
from mmaudio_client.errors import JobCanceledError, JobFailedError, UnavailableError

RETRY_S = 0.5
CALL_TIMEOUT_S = 15.0
CLIENTS = 8
ONE_MORE_WITHIN_S = 60.0


class GaveUpError(Exception):
    """Raised when no call succeeded until the end of the run."""


@dataclass
class Workload:
    """Submits, cancels and uploads against one platform. Calls of the Python client last until their job has ended.

    Attributes:
        videos: a good and a broken file.
        excused: says whether the Python client may have given up since a time, because more than the API was away.
    """

    url: str
    db: Database
    policy: SubmitPolicy
    ledger: Ledger
    give_up_at: float
    videos: dict[Kind, Path]
    excused: Callable[[float], bool] = lambda since: False  # noqa: ARG005
    uploads: dict[Kind, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _clients: Queue[Client] = field(default_factory=Queue)
    _waiting: list[threading.Thread] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def prepare(self) -> None:
        """Upload the files that requests name; connect the clients, which wait longer once they were answered."""
        for kind, path in self.videos.items():
            self._upload(kind, path)
        for _ in range(CLIENTS):
            client = Client(self.url, api_key="")
            client.page(limit=1)
            self._clients.put(client)

    def _upload(self, kind: Kind, path: Path) -> None:
        data = path.read_bytes()
        announced = self._call("POST", "/v1/uploads", json={"filename": path.name, "size_bytes": len(data)}).json()
        how = announced["upload"]
        if how["method"] == "POST":
            answer = httpx.post(
                how["url"], data=how["fields"], files={"file": (path.name, data)}, timeout=CALL_TIMEOUT_S
            )
        else:
            answer = self._call(how["method"], how["url"], content=data)
        answer.raise_for_status()
        self.uploads[kind] = announced["id"]

    def run(self, spread_s: float, seed: int) -> None:
        """Submit all requests over `spread_s` seconds; return when each was answered or given up."""
        rng = random.Random(f"arrivals {seed}")
        drawn = list(self.ledger.entries)
        with ThreadPoolExecutor(16) as pool, self._until_interrupted():
            for entry in drawn:
                self._stop.wait(rng.expovariate(len(drawn) / spread_s) if spread_s else 0)
                if entry.by_client:
                    self._start_client(entry)
                else:
                    pool.submit(self._submit, entry)

    @contextlib.contextmanager
    def _until_interrupted(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.give_up()
            raise

    def _start_client(self, entry: Entry) -> None:
        def submit() -> None:
            client = self._clients.get()
            try:
                self._submit(entry, client=client)
            finally:
                self._clients.put(client)

        # A daemon: an interrupted run does not wait for the end of the client's jobs.
        thread = threading.Thread(target=submit, name=f"client {entry.key}", daemon=True)
        self._waiting.append(thread)
        thread.start()

    def wait_for_clients(self, timeout_s: float) -> None:
        """Wait until the Python client has returned from the end of every job that it was asked to wait for."""
        deadline = time.monotonic() + timeout_s
        for thread in self._waiting:
            thread.join(max(0.0, deadline - time.monotonic()))
        running = [thread.name for thread in self._waiting if thread.is_alive()]
        if running:
            self.ledger.add_caller_error(f"calls had not returned after the last job had ended: {', '.join(running)}")

    def give_up(self) -> None:
        """Let every call end soon, because the run is interrupted."""
        self.give_up_at = 0.0
        self._stop.set()

    def submit_one_more(self) -> str | None:
        """Submit a small request by HTTP; return the id of its job, None when nothing answered in a minute."""
        entry = small_entry(f"more-{next(self._numbers):04d}")
        self.ledger.add(entry)
        self._submit(entry, within_s=ONE_MORE_WITHIN_S)
        return entry.job_id

    def drop_files(self, inbox: Path, *, good: int) -> str:
        """Put files into the inbox: some must become one job each, of which the last fails; others have odd names."""
        number = next(self._numbers)
        video = self.videos[Kind.VIDEO].read_bytes()
        odd = odd_names(number)
        self.ledger.add(odd_files=len(odd))
        for odd_name in odd:
            put_file(inbox, odd_name, video)
        # These sort behind the odd ones, which must not keep them waiting.
        names = [f"zz-{number:04d}-{n}.mp4" for n in range(good)]
        self.ledger.add(*(inbox_entry(name, Kind.VIDEO) for name in names))
        for name in names:
            put_file(inbox, name.encode(), video)
        broken = f"zz-{number:04d}-broken.mp4"
        self.ledger.add(inbox_entry(broken, Kind.BROKEN_VIDEO))
        put_file(inbox, broken.encode(), self.videos[Kind.BROKEN_VIDEO].read_bytes())
        return f"{len(odd)} files with odd names, {good} good files, one broken video"

    def _submit(self, entry: Entry, *, within_s: float | None = None, client: Client | None = None) -> None:
        until = self.give_up_at if within_s is None else min(self.give_up_at, time.monotonic() + within_s)
        if entry.kind in self.uploads:
            entry.fields["video"] = self.uploads[entry.kind]
        try:
            if client is not None:
                self._submit_by_client(entry, client)
                return
            if entry.tenant == TENANTS[0]:
                entry.job_id = self._submit_by_http(entry, until)
            else:
                entry.job_id = self._submit_by_service(entry)
            if entry.cancel_after_s is not None:
                time.sleep(entry.cancel_after_s)
                entry.cancel_accepted = self._cancel(entry)
        except GaveUpError as exc:
            self.ledger.add_caller_error(f"{entry.key}: {exc}")
        except Exception as exc:  # the thread's boundary: report what a caller should never see
            self.ledger.add_caller_error(f"{entry.key}: {type(exc).__name__}: {exc}")

    def _submit_by_http(self, entry: Entry, until: float) -> str:
        headers = {"Idempotency-Key": entry.key}
        answer = self._call("POST", "/v1/jobs", json=entry.fields, headers=headers, entry=entry, until=until)
        return str(answer.json()["id"])

    def _submit_by_client(self, entry: Entry, client: Client) -> None:
        """Submit with the Python client and wait for the end of the job, as a script does."""
        while (began := time.monotonic()) < self.give_up_at:
            entry.tries += 1
            try:
                entry.job_id = client.submit(idempotency_key=entry.key, **entry.fields).id
                client.wait(entry.job_id, timeout_s=self.give_up_at - time.monotonic())
            except (JobFailedError, JobCanceledError):
                return  # the checker finds it
            except UnavailableError as exc:
                if not self.excused(began):
                    raise GaveUpError(f"the client gave up although at most the API was away: {exc}") from exc
                time.sleep(RETRY_S)
            else:
                return
        raise GaveUpError("the job did not end")

    def _submit_by_service(self, entry: Entry) -> str:
        request = JobRequest.model_validate(entry.fields)
        idempotency = Idempotency.of("chaos", entry.key, request)
        while time.monotonic() < self.give_up_at:
            entry.tries += 1
            try:
                return submit_and_commit(
                    self.db.of_tenant(entry.tenant), request, policy=self.policy, idempotency=idempotency
                ).job.id
            except SQLAlchemyError:
                time.sleep(RETRY_S)
        raise GaveUpError("the database accepted no submission")

    def _cancel(self, entry: Entry) -> bool:
        if entry.tenant == TENANTS[0]:
            return self._call("POST", f"/v1/jobs/{entry.job_id}/cancel", allowed=(409,)).is_success
        assert entry.job_id is not None
        while time.monotonic() < self.give_up_at:
            try:
                with self.db.of_tenant(entry.tenant).transaction() as tx:
                    cancel(tx, entry.job_id)
                return True
            except JobEndedError:
                return False
            except SQLAlchemyError:
                time.sleep(RETRY_S)
        raise GaveUpError("the database accepted no cancel")

    def _call(
        self,
        method: str,
        path: str,
        *,
        entry: Entry | None = None,
        allowed: tuple[int, ...] = (),
        until: float | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Call until the status is 2xx or one of `allowed`; parts may be broken meanwhile.

        Raises:
            GaveUpError: no call succeeded in time, or the API refused the request.
        """
        last = "nothing"
        until = self.give_up_at if until is None else until
        while time.monotonic() < min(until, self.give_up_at):
            if entry is not None:
                entry.tries += 1
            try:
                with httpx.Client(base_url=self.url, timeout=CALL_TIMEOUT_S, trust_env=False) as client:
                    answer = client.request(method, path, **more)
            except httpx.TransportError as exc:
                last = type(exc).__name__
            else:
                if answer.is_success or answer.status_code in allowed:
                    return answer
                last = f"{answer.status_code} {answer.text[:300]}"
                if answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                    break
            time.sleep(RETRY_S)
        raise GaveUpError(f"{method} {path} failed, last with {last}")
