"""Triggers over HTTP: rules that create a job for each new object of a bucket."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import httpx

from mmaudio_client.errors import NotFoundError
from mmaudio_client.transport import Transport

Document = Mapping[str, Any]
PATH = "/v1/triggers"
HTTP_NOT_FOUND = 404
_ID_SHAPE = re.compile(r"[A-Za-z0-9_-]+")


class Triggers:
    """The triggers of one platform; `Client.triggers`.

    Raises (all methods):
        NotFoundError: there is no trigger of that id.
        InvalidRequestError: a field is not allowed.
        UnavailableError: the server cannot be reached.
    """

    def __init__(self, calls: Transport) -> None:
        self._calls = calls

    def list(self) -> tuple[Document, ...]:
        """Return all triggers, newest first."""
        answer = self._calls.call("GET", PATH, again=True)
        return tuple(self._calls.members(answer, "a list of triggers", "data")[0])

    def add(
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
        return self._trigger(self._calls.call("POST", PATH, json=body, again=False))

    def get(self, trigger_id: str) -> Document:
        """Return a trigger with its latest events."""
        return self._trigger(self._calls.call("GET", _path(trigger_id), again=True))

    def remove(self, trigger_id: str) -> None:
        """Remove a trigger. Jobs that it created continue."""
        self._calls.call("DELETE", _path(trigger_id), again=True)

    def dry_run(self, trigger_id: str, key: str) -> tuple[Document, ...]:
        """Return what the trigger would do with an object of its bucket, without doing it."""
        answer = self._calls.call("POST", f"{_path(trigger_id)}/dry-run", json={"key": key}, again=True)
        return tuple(self._calls.members(answer, "a list of objects", "data")[0])

    def _trigger(self, answer: httpx.Response) -> Document:
        self._calls.members(answer, "a trigger", "id")
        return dict(answer.json())


def _path(trigger_id: str) -> str:
    if not isinstance(trigger_id, str) or _ID_SHAPE.fullmatch(trigger_id) is None:
        raise NotFoundError(HTTP_NOT_FOUND, "trigger_not_found", f"{trigger_id!r} is not a trigger id.")
    return f"{PATH}/{quote(trigger_id, safe='')}"
