"""One HTTP call and its retries, with growing, jittered pauses."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from mmaudio_client.connection import CONNECT_TIMEOUT_S
from mmaudio_client.errors import (
    ApiError,
    ClientClosedError,
    ClientError,
    ConflictError,
    InvalidInputError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
    UnreachableError,
    WrongServerError,
)
from mmaudio_client.request_body import check_body

TRIES = 5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
LONGEST_RETRY_AFTER_S = 120.0
TOO_MANY_REQUESTS = 429
_RETRYABLE_STATUS = frozenset({TOO_MANY_REQUESTS, 502, 503, 504})
_UNKNOWN_PATH = frozenset({404, 405, 501})
"""Statuses that mean "not this server" where the answer has no error code; a proxy in between gives others."""
_KINDS = {404: NotFoundError, 409: ConflictError, 422: InvalidRequestError}


class Transport:
    """Sends requests to one server.

    Args:
        http: the client that sends; its base URL is the server's.
        sleep, rng: injected for tests.
        wait_for_server: also retry when the server cannot be reached at all. False: that is an error at once, until
            the server has answered for the first time; an outage after that is waited out.
    """

    def __init__(
        self,
        http: httpx.Client,
        *,
        sleep: Callable[[float], None] = time.sleep,
        rng: Callable[[], float] = random.random,
        wait_for_server: bool = True,
    ) -> None:
        self.http, self._sleep, self._rng = http, sleep, rng
        self._retry_connecting = wait_for_server

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
            again: the request may be sent twice: it is idempotent, or carries an idempotency key.

        Raises:
            ApiError: the server refused it (by status: NotFoundError, ConflictError, InvalidRequestError).
            UnreachableError: no connection could be made.
            UnavailableError: no answer after all tries.
            WrongServerError: the answer is not one of an mmaudio server.
            InvalidInputError: a text of the request is not valid Unicode.
            InvalidRequestError: the body cannot be sent as JSON.
            ClientClosedError: the client is closed.
        """
        self.check_open()
        if json is not None:
            check_body(json)
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_s is None else httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        error: ClientError = UnavailableError("")
        for attempt in range(TRIES):
            retry_after = None
            try:
                answer = self.http.request(method, url, json=json, params=params, headers=headers, timeout=timeout)
            except UnicodeEncodeError as exc:
                raise InvalidInputError(
                    f"The request contains text that is not valid Unicode: {exc.object!r}."
                ) from exc
            except httpx.InvalidURL as exc:  # a link of an answer
                raise WrongServerError(f"The server gave a link that is not a URL: {exc}.") from exc
            except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
                error = UnreachableError(f"Cannot connect to {self.http.base_url}: {_reason(exc)}")
                if not self._retry_connecting:
                    raise error from exc
            except httpx.RequestError as exc:
                error = UnavailableError(f"The connection to {self.http.base_url} broke: {_reason(exc)}")
                if not again:
                    break
            else:
                self._retry_connecting = True
                if answer.status_code not in _RETRYABLE_STATUS or (
                    not again and answer.status_code != TOO_MANY_REQUESTS
                ):
                    return self._checked(answer)
                error = api_error(answer)
                if answer.status_code != TOO_MANY_REQUESTS:
                    error = UnavailableError(str(error))
                retry_after = _retry_after_s(answer)
            if attempt < TRIES - 1:
                self._sleep(retry_after if retry_after is not None else self._pause(attempt))
        error.args = (f"{error} (tried {attempt + 1} times)",)
        raise error

    def check_open(self) -> None:
        """Check that the client can send.

        Raises:
            ClientClosedError: it cannot.
        """
        if self.http.is_closed:
            raise ClientClosedError("The client is closed; make a new one.")

    def members(self, answer: httpx.Response, kind: str, *names: str) -> tuple[Any, ...]:
        """Return members of the object that an answer holds.

        Args:
            kind: what the object should be, for the error.

        Raises:
            WrongServerError: the answer has no such members.
        """
        try:
            document = answer.json()
            return tuple(document[name] for name in names)
        except (KeyError, TypeError, ValueError) as exc:
            raise self.wrong_document(answer, kind) from exc

    def wrong_document(self, answer: httpx.Response, kind: str) -> WrongServerError:
        """Return the error for an answer of another form."""
        return WrongServerError(f"{answer.url} answered with JSON that is not {kind}: {self._advice}")

    @property
    def _advice(self) -> str:
        return f"{self.http.base_url} is not an mmaudio server; check --api-url or MMAUDIO_API_URL."

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code in {httpx.codes.NOT_MODIFIED, httpx.codes.NO_CONTENT}:
            return answer
        if not answer.is_success:
            error = api_error(answer)
            if not error.code and answer.status_code in _UNKNOWN_PATH:
                raise WrongServerError(f"The server answered {answer.status_code} at {answer.url.path}: {self._advice}")
            raise error
        kind = answer.headers.get("Content-Type", "no content type")
        if "json" not in kind:
            raise WrongServerError(f"{answer.url} answered with {kind} instead of JSON: {self._advice}")
        try:
            answer.json()
        except ValueError as exc:
            raise WrongServerError(f"{answer.url} answered with text that is not JSON: {self._advice}") from exc
        return answer

    def _pause(self, attempt: int) -> float:
        return float(min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)) * (0.5 + 0.5 * self._rng())


def _reason(exc: Exception) -> str:
    return re.sub(r"^\[Errno -?\d+\] ", "", str(exc)) or type(exc).__name__


def api_error(answer: httpx.Response) -> ApiError:
    """Return the exception for a refusal, also where the answer is not a problem document (a proxy's page)."""
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
