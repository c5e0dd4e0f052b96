"""One HTTP call with its tries: what may be sent again is, with pauses that grow and jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import httpx

from mmaudio_client.errors import (
    ApiError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
    WrongServerError,
)

TRIES = 5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
LONGEST_RETRY_AFTER_S = 120.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_KINDS = {404: NotFoundError, 409: ConflictError, 422: InvalidRequestError}


class KeyAuth(httpx.Auth):
    """Shows a key to the server it belongs to, and to no other that a link leads to.

    Links need not lead back to the address that was called: the server's public URL may be another, and so is an
    object store's. httpx itself takes the header off when a redirect leaves the server.
    """

    def __init__(self, key: str, server: httpx.URL) -> None:
        self._key, self._origin = key, _origin(server)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _origin(request.url) == self._origin:
            request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


class Transport:
    """Talks to one server.

    Args:
        http: the client that sends; its base URL is the server's.
        sleep, rng: injected for tests.
    """

    def __init__(
        self,
        http: httpx.Client,
        *,
        sleep: Callable[[float], None] = time.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.http, self._sleep, self._rng = http, sleep, rng

    def call(
        self,
        method: str,
        url: str,
        *,
        again: bool,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """Send a request and return its answer, 2xx or 304.

        Args:
            again: it may be sent twice (it is idempotent, or carries an idempotency key).

        Raises:
            ApiError: the server refused it (by status: NotFoundError, ConflictError, InvalidRequestError).
            UnavailableError: no answer after all tries.
            WrongServerError: what answered is not the platform.
        """
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_s is None else httpx.Timeout(timeout_s, connect=10)
        trouble = ""
        for attempt in range(TRIES):
            retry_after = None
            try:
                answer = self.http.request(method, url, json=json, params=params, headers=headers, timeout=timeout)
            except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
                trouble = f"no connection to {self.http.base_url}: {exc or type(exc).__name__}"
            except httpx.RequestError as exc:
                trouble = f"the connection to {self.http.base_url} broke: {exc or type(exc).__name__}"
                if not again:
                    break
            else:
                if answer.status_code not in _TRY_AGAIN or (not again and answer.status_code != 429):
                    return _checked(answer)
                trouble = str(api_error(answer))
                retry_after = _retry_after_s(answer)
            if attempt < TRIES - 1:
                self._sleep(retry_after if retry_after is not None else self._pause(attempt))
        raise UnavailableError(f"{trouble} (tried {attempt + 1} times)")

    def _pause(self, attempt: int) -> float:
        return float(min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)) * (0.5 + 0.5 * self._rng())


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.status_code in {httpx.codes.NOT_MODIFIED, httpx.codes.NO_CONTENT}:
        return answer
    if not answer.is_success:
        raise api_error(answer)
    kind = answer.headers.get("Content-Type", "nothing")
    if "json" not in kind:
        raise WrongServerError(f"{answer.url} answered with {kind} instead of JSON; is the platform there?")
    return answer


def api_error(answer: httpx.Response) -> ApiError:
    """Return the error that a refusal means; also for answers that are no problem documents (a proxy's page)."""
    try:
        document = answer.json()
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    errors = document.get("errors")
    items = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    fields = {str(item["field"]): str(item.get("message", "")) for item in items if "field" in item}
    detail = str(document.get("detail") or f"The server answered {answer.status_code} {answer.reason_phrase}.")
    kind = _KINDS.get(answer.status_code, ApiError)
    return kind(answer.status_code, str(document.get("code") or ""), detail, fields)


def _retry_after_s(answer: httpx.Response) -> float | None:
    value = answer.headers.get("Retry-After", "")
    return min(float(value), LONGEST_RETRY_AFTER_S) if value.isdecimal() else None
