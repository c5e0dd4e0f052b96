"""Batches over HTTP: many jobs created by one call, all of them or none."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

from mmaudio_client.blocking import blocking, blocking_iterator
from mmaudio_client.errors import UnavailableError, WaitTimeoutError
from mmaudio_client.inputs import is_remote, open_input
from mmaudio_client.models import Job, known_fields
from mmaudio_client.paging import documents
from mmaudio_client.request_body import check_body, checked_idempotency_key
from mmaudio_client.transport import Transport
from mmaudio_client.uploads import send_upload

PATH = "/v1/batches"
JOBS_PER_PAGE = 200
CREATE_TIMEOUT_S = 120.0
"""Ten thousand jobs are created in one transaction."""


@dataclass(frozen=True)
class Batch:
    """A batch, as of the server's last answer. `counts` says how many of its jobs are in each state."""

    id: str
    name: str | None
    state: Literal["active", "finished"]
    total: int
    counts: Mapping[str, int]
    progress: float
    cancel_requested: bool
    metadata: Mapping[str, str]
    webhook_url: str | None
    created_at: datetime
    finished_at: datetime | None
    links: Mapping[str, str | None]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether all its jobs have ended, however."""
        return self.state == "finished"

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the batch that a document describes.

        Raises:
            KeyError, TypeError, ValueError: the document is none.
        """
        finished_at = document["finished_at"]
        times = {
            "created_at": datetime.fromisoformat(document["created_at"]),
            "finished_at": datetime.fromisoformat(finished_at) if finished_at else None,
        }
        return cls(**{**known_fields(cls, document), **times, "raw": document})


class AsyncBatches:
    """The batches of one platform; `AsyncClient.batches`.

    Raises (all methods):
        NotFoundError: there is no batch of that id.
        UnavailableError: the server cannot be reached.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Create up to 10,000 jobs, all of them or none.

        Args:
            requests: fields as `Client.submit` takes them. Files as `video` and `image` are uploaded first; one that
                several requests name by the same path, once.
            name: display name.
            webhook_url: called once, when all jobs have ended.
            idempotency_key: two calls with one key create one batch; default: a random key.

        Raises:
            InvalidInputError: a file is missing or empty; nothing was created.
            InvalidRequestError: a request is not allowed, and nothing was created; `fields` begin with its place.
        """
        key = checked_idempotency_key(idempotency_key or str(uuid.uuid4()))
        sent: dict[str, str] = {}
        bodies = [await self._with_uploads(request, sent) for request in requests]
        fields = {"name": name, "metadata": dict(metadata) if metadata else None, "webhook_url": webhook_url}
        body = {"requests": bodies, **{field: value for field, value in fields.items() if value is not None}}
        answer = await self._transport.call(
            "POST", PATH, json=body, headers={"Idempotency-Key": key}, again=True, timeout_s=CREATE_TIMEOUT_S
        )
        return self._batch(answer)

    async def get(self, batch: Batch | str) -> Batch:
        """Return a batch as it is now."""
        return self._batch(await self._transport.call("GET", _path(batch), again=True))

    async def list(self) -> AsyncIterator[Batch]:
        """Yield all batches, newest first."""
        async for document in documents(self._transport, PATH, "batches"):
            yield Batch.from_json(document)

    async def jobs(self, batch: Batch | str, *, state: str | None = None) -> AsyncIterator[Job]:
        """Yield the jobs of a batch, newest first; with `state`, those in it (several with commas between)."""
        params = {"batch": _id(batch), "state": state, "limit": JOBS_PER_PAGE}
        async for document in documents(self._transport, "/v1/jobs", "jobs", params):
            yield Job.from_json(document)

    async def watch(self, batch: Batch | str, *, every_s: float = 2.0) -> AsyncIterator[Batch]:
        """Yield the batch every `every_s` seconds; the last one has ended."""
        current = await self.get(batch)
        while True:
            yield current
            if current.ended:
                return
            await self._transport.driver.sleep(every_s)
            current = await self.get(current)

    async def wait(self, batch: Batch | str, *, timeout_s: float | None = None, every_s: float = 2.0) -> Batch:
        """Return a batch once all its jobs have ended, whether they succeeded or not.

        Raises:
            WaitTimeoutError: they have not within `timeout_s`; they continue.
        """
        clock = self._transport.clock
        deadline = clock() + timeout_s if timeout_s is not None else None
        current = batch if isinstance(batch, Batch) else await self.get(batch)
        while not current.ended:
            left = None if deadline is None else deadline - clock()
            if left is not None and left <= 0:
                ended = sum(current.counts.get(state, 0) for state in ("succeeded", "failed", "canceled"))
                raise WaitTimeoutError(
                    f"{ended} of {current.total} jobs of {current.id} have ended after {timeout_s:g} s; "
                    "the others continue."
                )
            await self._transport.driver.sleep(every_s if left is None else min(every_s, left))
            try:
                current = await self.get(current)
            except UnavailableError as exc:
                raise type(exc)(f"{exc}. Batch {current.id} continues.") from exc
        return current

    async def cancel(self, batch: Batch | str) -> Batch:
        """Cancel the jobs of a batch that have not ended; idempotent.

        Raises:
            ConflictError: all had ended by themselves before.
        """
        return self._batch(await self._transport.call("POST", f"{_path(batch)}/cancel", again=True))

    async def _with_uploads(self, request: Mapping[str, Any], sent: dict[str, str]) -> dict[str, Any]:
        body = {name: value for name, value in request.items() if value is not None}
        for name in ("video", "image"):
            source = body.get(name)
            if source is None or is_remote(source):
                continue
            known = str(source) if not isinstance(source, bytes | bytearray) and not hasattr(source, "read") else None
            if known is None or known not in sent:
                with open_input(source) as opened:
                    upload_id = await send_upload(self._transport, opened, None)
                if known is not None:
                    sent[known] = upload_id
            else:
                upload_id = sent[known]
            body[name] = upload_id
        check_body(body)
        return body

    def _batch(self, answer: httpx.Response) -> Batch:
        try:
            return Batch.from_json(answer.json())
        except (KeyError, TypeError, ValueError) as exc:
            raise self._transport.wrong_document(answer, "a batch") from exc


class Batches:
    """The batches of one platform; `Client.batches`. Errors as `AsyncBatches`."""

    def __init__(self, calls: AsyncBatches) -> None:
        self._calls = calls

    create = blocking(AsyncBatches.create)
    get = blocking(AsyncBatches.get)
    list = blocking_iterator(AsyncBatches.list)
    jobs = blocking_iterator(AsyncBatches.jobs)
    watch = blocking_iterator(AsyncBatches.watch)
    wait = blocking(AsyncBatches.wait)
    cancel = blocking(AsyncBatches.cancel)


def _id(batch: Batch | str) -> str:
    return batch.id if isinstance(batch, Batch) else batch


def _path(batch: Batch | str) -> str:
    return f"{PATH}/{quote(_id(batch), safe='')}"
