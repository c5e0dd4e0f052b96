"""Submits the ledger's requests and retries each until it is answered, as a careful caller does.

The tenant `default` uses the HTTP API. The others are submitted through the service, as a trigger does: the API has no
keys yet, so it knows only one tenant.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.exc import SQLAlchemyError

from chaos.ledger import TENANTS, Entry, Kind, Ledger
from jobs.db.database import Database
from jobs.errors import JobEndedError
from jobs.request import JobRequest
from jobs.service.cancellation import cancel
from jobs.service.submission import Idempotency, SubmitPolicy, submit_and_commit

RETRY_S = 0.5
CALL_TIMEOUT_S = 15.0


class GaveUpError(Exception):
    """Raised when no call succeeded until the end of the run."""


@dataclass
class Workload:
    """Submits, cancels and uploads against one platform."""

    url: str
    db: Database
    policy: SubmitPolicy
    ledger: Ledger
    give_up_at: float
    uploads: dict[Kind, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def upload(self, kind: Kind, path: Path) -> None:
        """Upload a file for the requests of this kind."""
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
        with ThreadPoolExecutor(16) as pool:
            for entry in self.ledger.entries:
                self._stop.wait(rng.expovariate(len(self.ledger.entries) / spread_s) if spread_s else 0)
                pool.submit(self._submit, entry)

    def _submit(self, entry: Entry) -> None:
        if entry.kind in self.uploads:
            entry.fields["video"] = self.uploads[entry.kind]
        try:
            submit = self._submit_by_http if entry.tenant == TENANTS[0] else self._submit_by_service
            entry.job_id = submit(entry)
            if entry.cancel_after_s is not None:
                time.sleep(entry.cancel_after_s)
                entry.cancel_accepted = self._cancel(entry)
        except GaveUpError as exc:
            self.ledger.add_caller_error(f"{entry.key}: {exc}")
        except Exception as exc:  # the thread's boundary: report what a caller should never see
            self.ledger.add_caller_error(f"{entry.key}: {type(exc).__name__}: {exc}")

    def _submit_by_http(self, entry: Entry) -> str:
        answer = self._call("POST", "/v1/jobs", json=entry.fields, headers={"Idempotency-Key": entry.key}, entry=entry)
        return str(answer.json()["id"])

    def _submit_by_service(self, entry: Entry) -> str:
        request = JobRequest.model_validate(entry.fields)
        idempotency = Idempotency.of("chaos", entry.key, request)
        while time.monotonic() < self.give_up_at:
            entry.tries += 1
            try:
                return submit_and_commit(
                    self.db, request, tenant=entry.tenant, policy=self.policy, idempotency=idempotency
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
                with self.db.transaction() as tx:
                    cancel(tx, entry.job_id, tenant=entry.tenant)
                return True
            except JobEndedError:
                return False
            except SQLAlchemyError:
                time.sleep(RETRY_S)
        raise GaveUpError("the database accepted no cancel")

    def _call(
        self, method: str, path: str, *, entry: Entry | None = None, allowed: tuple[int, ...] = (), **more: Any
    ) -> httpx.Response:
        """Call until the status is 2xx or one of `allowed`; parts may be broken meanwhile.

        Raises:
            GaveUpError: no call succeeded in time, or the API refused the request.
        """
        last = "nothing"
        while time.monotonic() < self.give_up_at:
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
