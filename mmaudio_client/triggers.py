"""Triggers over HTTP: rules that turn new objects of a bucket into jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mmaudio_client.transport import Transport

Document = Mapping[str, Any]
PATH = "/v1/triggers"


class Triggers:
    """The triggers of one platform; `Client.triggers`.

    Raises (all methods):
        NotFoundError: there is no trigger of that id.
        InvalidRequestError: a field is not allowed.
        UnavailableError: the server could not be reached.
    """

    def __init__(self, calls: Transport) -> None:
        self._calls = calls

    def list(self) -> tuple[Document, ...]:
        """Return all triggers, newest first."""
        return tuple(self._calls.call("GET", PATH, again=True).json()["data"])

    def add(self, bucket: str, **fields: Any) -> Document:
        """Make a trigger; `fields` are those of the API: `prefix`, `suffixes`, `request`, `output`, `name`, ..."""
        body = {"bucket": bucket, **fields}
        # Not sent twice: each would make jobs of its own.
        return dict(self._calls.call("POST", PATH, json=body, again=False).json())

    def get(self, trigger_id: str) -> Document:
        """Return a trigger with its latest events."""
        return dict(self._calls.call("GET", _path(trigger_id), again=True).json())

    def remove(self, trigger_id: str) -> None:
        """Remove a trigger. Its jobs go on."""
        self._calls.call("DELETE", _path(trigger_id), again=True)

    def dry_run(self, trigger_id: str, key: str) -> tuple[Document, ...]:
        """Return what the trigger would do with an object of its bucket; makes nothing."""
        answer = self._calls.call("POST", f"{_path(trigger_id)}/dry-run", json={"key": key}, again=True)
        return tuple(answer.json()["data"])


def _path(trigger_id: str) -> str:
    return f"{PATH}/{quote(trigger_id, safe='')}"
