"""Signs messages and sends them to a URL of the developer's own, as the server would."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from mmaudio_client.webhook_signatures import new_webhook_secret, sign_webhook

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Forwarded:
    """What became of a message: the status of the answer, or why there was none."""

    status: int | None = None
    error: str | None = None


class Forwarder:
    """Forwards messages; a context manager.

    Args:
        url: where to.
        secret: signs them; None: a new one.
        transport: replaces the network in tests.

    Raises:
        ValueError: the secret cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.url, self.secret, self._clock = url, secret or new_webhook_secret(), clock
        sign_webhook("check", "", self.secret, sent_at=0)
        # The receiver is on this machine as a rule: no proxy, no redirects.
        self._http = httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def forward(self, message: Mapping[str, Any]) -> Forwarded:
        """Send a message; a receiver that cannot be reached is no error."""
        body = str(message["body"])
        headers = sign_webhook(str(message["id"]), body, self.secret, sent_at=self._clock())
        headers["Content-Type"] = "application/json"
        try:
            answer = self._http.post(self.url, content=body.encode(), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return Forwarded(error=str(exc) or type(exc).__name__)
        return Forwarded(status=answer.status_code)
