"""API keys over HTTP, for keys with the scope `admin`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

import httpx

from mmaudio_client.blocking import blocking, blocking_iterator
from mmaudio_client.paging import documents
from mmaudio_client.transport import Transport

Document = Mapping[str, Any]
Scope = Literal["jobs:read", "jobs:write", "admin"]
PATH = "/v1/api-keys"


class AsyncApiKeys:
    """The API keys of one platform; `AsyncClient.keys`. Without `tenant` they are those of the caller's own tenant.

    Raises (all methods):
        NotFoundError: there is no key of that id.
        InvalidRequestError: a field is not allowed.
        ApiError: the client's own key is no admin's (status 403).
        UnavailableError: the server cannot be reached.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        scopes: Sequence[Scope],
        name: str | None = None,
        tenant: str | None = None,
        expires_at: datetime | str | None = None,
    ) -> Document:
        """Create a key; the member `key` is the key itself, which the server never shows again.

        Args:
            scopes: what it allows; `admin` implies the others.
            name: display name.
            expires_at: when it stops being valid, with its zone; None: never.
        """
        fields = {"scopes": [*scopes], "name": name, "tenant": tenant, "expires_at": _text(expires_at)}
        body = {field: value for field, value in fields.items() if value is not None}
        # Not sent twice: another key would be valid that nobody knows.
        return self._document(await self._transport.call("POST", PATH, json=body, again=False))

    async def list(self, *, tenant: str | None = None, active: bool = False) -> AsyncIterator[Document]:
        """Yield all keys; `active`: only those that are valid now."""
        params = {"tenant": tenant, "active": "true" if active else None}
        async for document in documents(self._transport, PATH, "API keys", params):
            yield document

    async def get(self, key_id: str, *, tenant: str | None = None) -> Document:
        """Return a key, without its text."""
        return self._document(await self._transport.call("GET", _path(key_id), params=_of(tenant), again=True))

    async def revoke(self, key_id: str, *, tenant: str | None = None) -> None:
        """Revoke a key; it is refused from now on."""
        await self._transport.call("DELETE", _path(key_id), params=_of(tenant), again=True)

    async def rotate(self, key_id: str, *, grace_s: int = 0, tenant: str | None = None) -> Document:
        """Create a key with the scopes of another, which stays valid for `grace_s` seconds; returned as by `create`."""
        answer = await self._transport.call(
            "POST", f"{_path(key_id)}/rotate", json={"grace_s": grace_s}, params=_of(tenant), again=False
        )
        return self._document(answer)

    def _document(self, answer: httpx.Response) -> Document:
        self._transport.members(answer, "an API key", "id", "scopes")
        return dict(answer.json())


class ApiKeys:
    """The API keys of one platform; `Client.keys`. Errors as `AsyncApiKeys`."""

    def __init__(self, calls: AsyncApiKeys) -> None:
        self._calls = calls

    create = blocking(AsyncApiKeys.create)
    list = blocking_iterator(AsyncApiKeys.list)
    get = blocking(AsyncApiKeys.get)
    revoke = blocking(AsyncApiKeys.revoke)
    rotate = blocking(AsyncApiKeys.rotate)


def _path(key_id: str) -> str:
    return f"{PATH}/{quote(key_id, safe='')}"


def _of(tenant: str | None) -> dict[str, str] | None:
    return {"tenant": tenant} if tenant is not None else None


def _text(time: datetime | str | None) -> str | None:
    return time.isoformat() if isinstance(time, datetime) else time
