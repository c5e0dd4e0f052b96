"""Webhooks over HTTP: endpoints, their secrets, the delivery log, and messages for a listener."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from mmaudio_client.blocking import blocking, blocking_iterator
from mmaudio_client.errors import NotFoundError
from mmaudio_client.transport import Transport

Document = Mapping[str, Any]
PATH = "/v1/webhooks"
MAX_PAGE = 200
LISTEN_PAUSE_S = 1.0
HTTP_NOT_FOUND = 404
_ID_SHAPE = re.compile(r"[A-Za-z0-9_-]+")


class AsyncWebhooks:
    """The webhooks of one platform; `AsyncClient.webhooks`.

    Raises (all methods):
        NotFoundError: there is no endpoint or delivery of that id.
        ConflictError: the endpoint is disabled, the delivery is still tried, or there are too many endpoints.
        InvalidRequestError: a field is not allowed.
        UnavailableError: the server cannot be reached.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def endpoints(self) -> tuple[Document, ...]:
        """Return all endpoints, newest first; reads page by page."""
        return tuple([one async for one in self._all("endpoints", {})])

    async def create(
        self, url: str, *, events: Sequence[str] | None = None, description: str | None = None
    ) -> Document:
        """Create an endpoint; its document has the `secret` that `verify_webhook` needs.

        Args:
            events: `started`, `progress`, `succeeded`, `failed`, `canceled`, `batch_finished`; None: the ends of jobs
                and batches.
        """
        fields = {"url": url, "events": events if events is None else [*events], "description": description}
        body = {name: value for name, value in fields.items() if value is not None}
        # Not sent twice: each endpoint would receive everything.
        return self._document(await self._transport.call("POST", f"{PATH}/endpoints", json=body, again=False))

    async def endpoint(self, endpoint_id: str) -> Document:
        """Return an endpoint: whether it works, and why it is disabled."""
        return self._document(await self._transport.call("GET", _path("endpoints", endpoint_id), again=True))

    async def update(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Document:
        """Change what is given. Disabling drops what is pending."""
        fields = {"url": url, "events": events, "description": description, "enabled": enabled}
        body = {name: value for name, value in fields.items() if value is not None}
        path = _path("endpoints", endpoint_id)
        return self._document(await self._transport.call("PATCH", path, json=body, again=True))

    async def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint and its deliveries."""
        await self._transport.call("DELETE", _path("endpoints", endpoint_id), again=True)

    async def secret(self, endpoint_id: str | None = None) -> str:
        """Return the secret of an endpoint; without one that of the URLs that jobs name (`webhook_url`)."""
        path = f"{PATH}/secret" if endpoint_id is None else f"{_path('endpoints', endpoint_id)}/secret"
        return self._secret(await self._transport.call("GET", path, again=True))

    async def rotate(self, endpoint_id: str | None = None, *, overlap_s: int | None = None) -> str:
        """Make a new secret and return it; deliveries are signed with the previous one as well for `overlap_s`."""
        path = f"{PATH}/secret" if endpoint_id is None else f"{_path('endpoints', endpoint_id)}/secret"
        body = {} if overlap_s is None else {"overlap_s": overlap_s}
        # Not sent twice: the secret that is still in use would be lost.
        return self._secret(await self._transport.call("POST", f"{path}/rotate", json=body, again=False))

    async def test(self, endpoint_id: str) -> Document:
        """Send a test; return its delivery."""
        path = f"{_path('endpoints', endpoint_id)}/test"
        return self._document(await self._transport.call("POST", path, again=False))

    def deliveries(
        self, *, endpoint_id: str | None = None, state: str | None = None, job_id: str | None = None
    ) -> AsyncIterator[Document]:
        """Yield deliveries, newest first.

        Args:
            state: `pending`, `delivered`, `failed` or `dropped`.
        """
        given = {"endpoint_id": endpoint_id, "state": state, "job_id": job_id}
        return self._all("deliveries", {name: value for name, value in given.items() if value is not None})

    async def delivery(self, delivery_id: str) -> Document:
        """Return a delivery with all its tries."""
        return self._document(await self._transport.call("GET", _path("deliveries", delivery_id), again=True))

    async def replay(self, delivery_id: str) -> Document:
        """Send a delivery again that has ended."""
        path = f"{_path('deliveries', delivery_id)}/replay"
        return self._document(await self._transport.call("POST", path, again=False))

    async def replay_failed(self, since: datetime, *, endpoint_id: str | None = None) -> int:
        """Send again what was not delivered of the events since a time; return how many.

        Raises:
            ValueError: the time has no zone.
        """
        if since.tzinfo is None:
            raise ValueError(f"Got the time {since} without a zone; give one with a zone.")
        body = {"since": since.isoformat(), "endpoint_id": endpoint_id}
        body = {name: value for name, value in body.items() if value is not None}
        total = 0
        while True:
            answer = await self._transport.call("POST", f"{PATH}/replay", json=body, again=True)
            replayed, more = self._transport.members(answer, "the answer to a replay", "replayed", "has_more")
            total += int(replayed)
            if not more:
                return total

    async def listen(self, *, after: str | None = None) -> AsyncIterator[Document]:
        """Yield the messages that an endpoint for all events of jobs would receive, as their events happen; endless.

        Args:
            after: `event_id` after which to begin; None: now.
        """
        while True:
            params = {"limit": MAX_PAGE} if after is None else {"limit": MAX_PAGE, "after": after}
            answer = await self._transport.call("GET", f"{PATH}/messages", params=params, again=True)
            messages, after, more = self._transport.members(answer, "messages", "data", "next_after", "has_more")
            for message in messages:
                yield message
            if not more:
                await self._transport.driver.sleep(LISTEN_PAUSE_S)

    async def _all(self, kind: str, params: Mapping[str, Any]) -> AsyncIterator[Document]:
        query = {**params, "limit": MAX_PAGE}
        answer = await self._transport.call("GET", f"{PATH}/{kind}", params=query, again=True)
        while True:
            for one in self._transport.members(answer, f"a list of {kind}", "data")[0]:
                yield one
            following = (answer.json().get("links") or {}).get("next")
            if following is None:
                return
            answer = await self._transport.call("GET", following, again=True)

    def _document(self, answer: httpx.Response) -> Document:
        self._transport.members(answer, "a document with an id", "id")
        return dict(answer.json())

    def _secret(self, answer: httpx.Response) -> str:
        return str(self._transport.members(answer, "a secret", "secret")[0])


class Webhooks:
    """The webhooks of one platform; `Client.webhooks`. Errors as `AsyncWebhooks`."""

    def __init__(self, calls: AsyncWebhooks) -> None:
        self._calls = calls

    endpoints = blocking(AsyncWebhooks.endpoints)
    create = blocking(AsyncWebhooks.create)
    endpoint = blocking(AsyncWebhooks.endpoint)
    update = blocking(AsyncWebhooks.update)
    delete = blocking(AsyncWebhooks.delete)
    secret = blocking(AsyncWebhooks.secret)
    rotate = blocking(AsyncWebhooks.rotate)
    test = blocking(AsyncWebhooks.test)
    deliveries = blocking_iterator(AsyncWebhooks.deliveries)
    delivery = blocking(AsyncWebhooks.delivery)
    replay = blocking(AsyncWebhooks.replay)
    replay_failed = blocking(AsyncWebhooks.replay_failed)
    listen = blocking_iterator(AsyncWebhooks.listen)


def _path(kind: str, row_id: str) -> str:
    if not isinstance(row_id, str) or _ID_SHAPE.fullmatch(row_id) is None:
        raise NotFoundError(HTTP_NOT_FOUND, "webhook_not_found", f"{row_id!r} is not the id of a webhook.")
    return f"{PATH}/{kind}/{quote(row_id, safe='')}"
