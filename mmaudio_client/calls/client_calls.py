"""All calls of the client together."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from mmaudio_client.api_keys import AsyncApiKeys
from mmaudio_client.batches import AsyncBatches
from mmaudio_client.calls.events import EventCalls
from mmaudio_client.calls.submission import SubmissionCalls
from mmaudio_client.presets import AsyncPresets
from mmaudio_client.request_body import checked_idempotency_key
from mmaudio_client.transport import Transport
from mmaudio_client.triggers import AsyncTriggers
from mmaudio_client.webhooks import AsyncWebhooks

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


class ClientCalls(SubmissionCalls, EventCalls):
    """Every call of the client; with a blocking driver its coroutines never suspend.

    Args:
        timeout_s: longest time for one answer, not counting what a wait adds.
    """

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        super().__init__(transport, timeout_s)
        self.batches = AsyncBatches(transport)
        self.keys = AsyncApiKeys(transport)
        self.presets = AsyncPresets(transport)
        self.triggers = AsyncTriggers(transport)
        self.webhooks = AsyncWebhooks(transport)

    @property
    def base_url(self) -> str:
        """The server's address."""
        return str(self._transport.driver.base_url)

    @property
    def on_outage(self) -> Callable[[str], None] | None:
        """What is called with a sentence when an outage begins; None: it is logged as a warning."""
        return self._transport.contact.on_outage

    @on_outage.setter
    def on_outage(self, tell: Callable[[str], None] | None) -> None:
        self._transport.contact.on_outage = tell

    async def variants(self) -> tuple[Mapping[str, Any], ...]:
        """Return the model variants of the server."""
        answer = await self._transport.call("GET", "/v1/variants", again=True)
        return tuple(self._transport.members(answer, "a list of variants", "data")[0])

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Send a request that has no method of its own; return the document of its answer, None where it has none.

        A GET, PUT or DELETE is repeated after a broken connection; another only with `idempotency_key`, or as long as
        it cannot have arrived.

        Args:
            path: such as "/v1/queue", or a link of an answer.
            idempotency_key: "": a random one.

        Raises:
            ApiError, UnavailableError: as the other calls.
        """
        headers = {}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = checked_idempotency_key(idempotency_key or str(uuid.uuid4()))
        again = method.upper() in IDEMPOTENT or idempotency_key is not None
        answer = await self._transport.call(method, path, json=json, params=params, headers=headers, again=again)
        return answer.json() if answer.content else None
