"""What `mmaudio up` asks its own API: whether it is ready, what it waits for, how many jobs run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobs.settings import Settings

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 2.0
POLL_EVERY_S = 0.5
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared


def base_url(settings: Settings) -> str:
    """Return the URL at which this machine's own callers reach the API."""
    host = settings.api_host
    return f"http://{_EVERY_ADDRESS.get(host, host)}:{settings.api_port}"


class LocalApi:
    """Asks the API of this machine. Never through a proxy, and never raises: it may just be starting."""

    def __init__(self, settings: Settings, *, transport: httpx.BaseTransport | None = None) -> None:
        import httpx  # only here, because it takes long: `mmaudio up` must first say what it is doing
        from sqlalchemy.exc import SQLAlchemyError

        self._settings = settings
        self._failures = (httpx.HTTPError, ValueError, KeyError, SQLAlchemyError)
        self._client = httpx.Client(
            base_url=base_url(settings), timeout=TIMEOUT_S, trust_env=False, transport=transport
        )
        self._preload = ", ".join(settings.preload)
        self._workers: list[dict[str, Any]] | None = None
        self._asked_at = float("-inf")

    def close(self) -> None:
        self._client.close()

    def is_ready(self) -> bool:
        """Return whether the API is ready and a worker takes jobs."""
        workers = self._recent_workers()
        return workers is not None and any(worker["state"] in {"idle", "busy"} for worker in workers)

    def startup_state(self) -> str:
        """Return what the start waits for."""
        workers = self._recent_workers()
        if workers is None:
            return "waiting for the API"
        starting = [worker for worker in workers if worker["state"] == "starting"]
        if not starting:
            return "the API is ready; waiting for a worker to start"
        loading = ", ".join(
            f"{self._preload or ', '.join(worker['variants'][:1])} on {worker['device']}" for worker in starting
        )
        return f"the API is ready; loading {loading}"

    def running_job_count(self) -> int | None:
        """Return how many jobs run; None when the API does not answer."""
        workers = self._ask_workers()
        return None if workers is None else sum(len(worker["running_jobs"]) for worker in workers)

    def _recent_workers(self) -> list[dict[str, Any]] | None:
        if time.monotonic() - self._asked_at >= POLL_EVERY_S:
            self._workers = self._ask_workers()
            self._asked_at = time.monotonic()
        return self._workers

    def _ask_workers(self) -> list[dict[str, Any]] | None:
        try:
            if self._client.get("/readyz").status_code != 200:
                return None
            if self._settings.require_api_key:
                return workers_in_database(self._settings)
            workers: list[dict[str, Any]] = self._client.get("/v1/workers").json()["data"]
        except self._failures:
            return None
        return workers


def workers_in_database(settings: Settings) -> list[dict[str, Any]]:
    """Return of each worker what `/v1/workers` says of it; where requests need a key, `mmaudio up` has none.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    # Imported only here, as httpx is.
    from jobs.db.database import Database
    from jobs.service.queries import displayed_worker_state, is_lost, list_workers, running_jobs
    from jobs.service.variant_availability import LOST_AFTER_LEASES

    db = Database(settings.database_url).of_platform()
    try:
        with db.reading() as tx:
            running = running_jobs(tx)
            lost_after_s = settings.lease_s * LOST_AFTER_LEASES
            return [
                {
                    "state": displayed_worker_state(
                        row, busy=row.id in running, lost=is_lost(row, tx.now, lost_after_s)
                    ),
                    "device": row.device,
                    "variants": row.variants,
                    "running_jobs": running.get(row.id, []),
                }
                for row in list_workers(tx)
            ]
    finally:
        db.close()
