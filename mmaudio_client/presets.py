"""Presets over HTTP: named templates of requests, in versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

import httpx

from mmaudio_client.blocking import blocking, blocking_iterator
from mmaudio_client.models import known_fields
from mmaudio_client.paging import documents
from mmaudio_client.transport import Transport

PATH = "/v1/presets"


@dataclass(frozen=True)
class Preset:
    """A version of a preset; `request` are the fields that a job gets from it where its own request has none."""

    name: str
    version: int
    description: str | None
    request: Mapping[str, Any]
    created_at: datetime
    links: Mapping[str, str | None]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the preset that a document describes.

        Raises:
            KeyError, TypeError, ValueError: the document is none.
        """
        created_at = datetime.fromisoformat(document["created_at"])
        return cls(**{**known_fields(cls, document), "created_at": created_at, "raw": document})


class AsyncPresets:
    """The presets of one platform; `AsyncClient.presets`.

    Raises (all methods):
        NotFoundError: there is no preset of that name, or no such version.
        InvalidRequestError: a field is not allowed.
        UnavailableError: the server cannot be reached.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, name: str, request: Mapping[str, Any], *, description: str | None = None) -> Preset:
        """Create a preset, or a new version of it; the same once more is no new version.

        Args:
            request: fields as `Client.submit` takes them.
            description: what it is for.
        """
        body = {"request": dict(request), **({"description": description} if description is not None else {})}
        return self._preset(await self._transport.call("PUT", _path(name), json=body, again=True))

    async def get(self, name: str, *, version: int | None = None) -> Preset:
        """Return the newest version of a preset, or the one with this number."""
        params = {"version": version} if version is not None else None
        return self._preset(await self._transport.call("GET", _path(name), params=params, again=True))

    async def list(self) -> AsyncIterator[Preset]:
        """Yield all presets by name, each in its newest version."""
        async for document in documents(self._transport, PATH, "presets"):
            yield Preset.from_json(document)

    async def versions(self, name: str) -> AsyncIterator[Preset]:
        """Yield all versions of a preset, newest first."""
        async for document in documents(self._transport, f"{_path(name)}/versions", "presets"):
            yield Preset.from_json(document)

    async def delete(self, name: str) -> None:
        """Delete all versions of a preset. Jobs keep what they got from it."""
        await self._transport.call("DELETE", _path(name), again=True)

    def _preset(self, answer: httpx.Response) -> Preset:
        try:
            return Preset.from_json(answer.json())
        except (KeyError, TypeError, ValueError) as exc:
            raise self._transport.wrong_document(answer, "a preset") from exc


class Presets:
    """The presets of one platform; `Client.presets`. Errors as `AsyncPresets`."""

    def __init__(self, calls: AsyncPresets) -> None:
        self._calls = calls

    put = blocking(AsyncPresets.put)
    get = blocking(AsyncPresets.get)
    list = blocking_iterator(AsyncPresets.list)
    versions = blocking_iterator(AsyncPresets.versions)
    delete = blocking(AsyncPresets.delete)


def _path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"
