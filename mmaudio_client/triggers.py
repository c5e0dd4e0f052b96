"""Triggers over HTTP: rules that create a job for each new object of a bucket."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import httpx

from mmaudio_client.blocking import blocking, blocking_iterator
from mmaudio_client.errors import NotFoundError
from mmaudio_client.transport import Transport

Document = Mapping[str, Any]
PATH = "/v1/triggers"
MAX_PAGE = 200
# The server asks the store about each object of a page.
BACKFILL_TIMEOUT_S = 120.0
HTTP_NOT_FOUND = 404
_ID_SHAPE = re.compile(r"[A-Za-z0-9_-]+")


class AsyncTriggers:
    """The triggers of one platform; `AsyncClient.triggers`.

    Raises (all methods):
        NotFoundError: there is no trigger of that id.
        InvalidRequestError: a field is not allowed.
        UnavailableError: the server cannot be reached.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> tuple[Document, ...]:
        """Return all triggers, newest first; reads page by page."""
        found: list[Document] = []
        answer = await self._transport.call("GET", PATH, params={"limit": MAX_PAGE}, again=True)
        while True:
            found += self._transport.members(answer, "a list of triggers", "data")[0]
            following = (answer.json().get("links") or {}).get("next")
            if following is None:
                return tuple(found)
            answer = await self._transport.call("GET", following, again=True)

    async def add(
        self,
        bucket: str,
        *,
        prefix: str | None = None,
        suffixes: Sequence[str] | None = None,
        source_field: Literal["video", "image"] | None = None,
        request: Mapping[str, Any] | None = None,
        deliver_to: str | None = None,
        name: str | None = None,
        enabled: bool | None = None,
    ) -> Document:
        """Create a trigger; None: the server's default.

        Args:
            bucket: the bucket whose new objects become jobs.
            prefix, suffixes: match only keys that begin and end like this.
            source_field: whether the objects are videos or images.
            request: the other fields of the jobs, as `Client.submit` takes them.
            deliver_to: `s3://bucket/prefix/` to which the results are also copied.
            name: display name.
            enabled: whether events create jobs from now on.
        """
        fields = {
            "bucket": bucket,
            "prefix": prefix,
            "suffixes": suffixes if suffixes is None else [*suffixes],
            "source_field": source_field,
            "request": request,
            "deliver_to": deliver_to,
            "name": name,
            "enabled": enabled,
        }
        body = {key: value for key, value in fields.items() if value is not None}
        # Not sent twice: each trigger would create jobs of its own.
        return self._trigger(await self._transport.call("POST", PATH, json=body, again=False))

    async def get(self, trigger_id: str) -> Document:
        """Return a trigger with its latest events."""
        return self._trigger(await self._transport.call("GET", _path(trigger_id), again=True))

    async def remove(self, trigger_id: str) -> None:
        """Remove a trigger. Jobs that it created continue."""
        await self._transport.call("DELETE", _path(trigger_id), again=True)

    async def dry_run(self, trigger_id: str, key: str) -> tuple[Document, ...]:
        """Return what the trigger would do with an object of its bucket, without doing it."""
        answer = await self._transport.call("POST", f"{_path(trigger_id)}/dry-run", json={"key": key}, again=True)
        return tuple(self._transport.members(answer, "a list of objects", "data")[0])

    async def backfill(
        self, trigger_id: str, *, prefix: str | None = None, max_jobs: int | None = None, dry_run: bool = False
    ) -> AsyncIterator[Document]:
        """Create jobs for objects that are already in the trigger's bucket; yield what was done, page by page.

        An object that the trigger has processed before creates no second job.

        Args:
            prefix: only keys that begin with this.
            max_jobs: stop after so many new jobs.
            dry_run: create nothing; the pages tell what would be done with each object in `data`.

        Raises:
            ConflictError: the trigger is disabled or paused, or the server may not list the bucket.
        """
        path, cursor, left = f"{_path(trigger_id)}/backfill", None, max_jobs
        while True:
            fields = {"prefix": prefix, "cursor": cursor, "max_jobs": left, "dry_run": dry_run or None}
            body = {name: value for name, value in fields.items() if value is not None}
            # Sent again where its answer is lost: an object creates one job, however often it is processed.
            answer = await self._transport.call("POST", path, json=body, again=True, timeout_s=BACKFILL_TIMEOUT_S)
            cursor, submitted = self._transport.members(answer, "a page of a backfill", "next_cursor", "submitted")
            yield dict(answer.json())
            left = None if left is None else left - submitted
            if cursor is None or (left is not None and left <= 0):
                return

    def _trigger(self, answer: httpx.Response) -> Document:
        self._transport.members(answer, "a trigger", "id")
        return dict(answer.json())


class Triggers:
    """The triggers of one platform; `Client.triggers`. Errors as `AsyncTriggers`."""

    def __init__(self, calls: AsyncTriggers) -> None:
        self._calls = calls

    list = blocking(AsyncTriggers.list)
    add = blocking(AsyncTriggers.add)
    get = blocking(AsyncTriggers.get)
    remove = blocking(AsyncTriggers.remove)
    dry_run = blocking(AsyncTriggers.dry_run)
    backfill = blocking_iterator(AsyncTriggers.backfill)


def _path(trigger_id: str) -> str:
    if not isinstance(trigger_id, str) or _ID_SHAPE.fullmatch(trigger_id) is None:
        raise NotFoundError(HTTP_NOT_FOUND, "trigger_not_found", f"{trigger_id!r} is not a trigger id.")
    return f"{PATH}/{quote(trigger_id, safe='')}"
