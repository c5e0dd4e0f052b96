"""HTTP calls and their retries: an outage of the server is waited out, with growing, jittered pauses."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from mmaudio_client.connection import CONNECT_TIMEOUT_S
from mmaudio_client.driver import Driver
from mmaudio_client.errors import (
    ApiError,
    AuthenticationError,
    ClientClosedError,
    ClientError,
    ConflictError,
    GoneError,
    InvalidInputError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    UnavailableError,
    UnreachableError,
    WrongServerError,
)
from mmaudio_client.outage import DEFAULT_PATIENCE_S, ServerContact, checked_patience
from mmaudio_client.request_body import check_body

TRIES = 5
"""How often a call is tried while its server is busy (429), or as long as it has never answered."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
LONGEST_RETRY_AFTER_S = 120.0
LONGEST_COUNTED_TRY_S = 30.0
"""A try that breaks after this time had a connection: a long transfer must not use up the patience."""
TOO_MANY_REQUESTS = 429
_AWAY_STATUS = frozenset({502, 503, 504})
_UNKNOWN_PATH = frozenset({404, 405, 501})
"""Statuses that mean "not this server" where the answer has no error code; a proxy in between gives others."""
_KINDS = {
    401: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidRequestError,
    TOO_MANY_REQUESTS: RateLimitError,
}
# Errors of httpx that the same request meets again, whatever the server does.
_LASTING = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.TooManyRedirects)

Result = TypeVar("Result")


class PassingError(Exception):
    """Raised by a step of `Transport.patiently` for an answer that another try may improve.

    Args:
        error: what to raise when it does not.
        retry_after_s: the server's own pause.
        busy: the server answers, but has too much to do: that is not an outage.
    """

    def __init__(self, error: ClientError, *, retry_after_s: float | None = None, busy: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.retry_after_s, self.busy = error, retry_after_s, busy


class Transport:
    """Sends requests to one server.

    Args:
        driver: sends the requests; its base URL is the server's.
        clock, rng: injected for tests.
        patience_s: longest outage to wait out; None: the default, and only `TRIES` tries as long as the server has
            never answered.
        wait_for_server: False: it is an error at once when no connection can be made, until the server has answered
            for the first time.
        on_outage: see `ServerContact`.

    Raises:
        ValueError: `patience_s` is out of range.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        patience_s: float | None = None,
        wait_for_server: bool = True,
        on_outage: Callable[[str], None] | None = None,
    ) -> None:
        self.driver, self.clock, self._rng = driver, clock, rng
        self.patience_s = checked_patience(DEFAULT_PATIENCE_S if patience_s is None else patience_s)
        self._patient_from_the_start = patience_s is not None
        self._wait_for_server = wait_for_server
        self.contact = ServerContact(on_outage)

    async def call(
        self,
        method: str,
        url: str,
        *,
        again: bool,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        within_s: float | None = None,
        busy_tries: int = TRIES,
    ) -> httpx.Response:
        """Send a request and return its answer, 2xx or 304.

        Args:
            again: the request may be sent twice: it is idempotent, or carries an idempotency key.
            within_s, busy_tries: as `patiently`.

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

        async def step() -> httpx.Response:
            answer = await self.driver.request(method, url, json=json, params=params, headers=headers, timeout=timeout)
            return self.check(self.present(answer, again=again), again=again)

        try:
            return await self.patiently(step, again=again, within_s=within_s, busy_tries=busy_tries)
        except UnicodeEncodeError as exc:
            raise InvalidInputError(f"The request contains text that is not valid Unicode: {exc.object!r}.") from exc

    async def patiently(
        self,
        step: Callable[[], Awaitable[Result]],
        *,
        again: bool,
        within_s: float | None = None,
        busy_tries: int = TRIES,
    ) -> Result:
        """Run a step that sends a request; run it again while the server is away or busy.

        Args:
            step: raises errors of httpx, `PassingError`, or the client's errors, which are final.
            again: the step may be repeated although the server may have carried it out.
            within_s: give up after this many seconds, where the patience is longer.
            busy_tries: how often to try while the server answers 429.

        Raises:
            UnreachableError: no connection could be made.
            UnavailableError, ApiError, WrongServerError: the last of all tries.
        """
        spent_s = outage_s = 0.0
        tries = 0
        while True:
            tries += 1
            began = self.clock()
            try:
                result = await step()
            except httpx.InvalidURL as exc:  # a link of an answer
                raise WrongServerError(f"The server gave a link that is not a URL: {exc}.") from exc
            except httpx.RequestError as exc:
                passing = self._lost_connection(exc, again=again)
            except PassingError as exc:
                passing = exc
            except ApiError as exc:
                if exc.code:
                    self.contact.heard()
                raise
            else:
                self.contact.heard()
                return result
            took_s = self.clock() - began
            spent_s += took_s
            if tries > 1:  # the first one began before the outage
                outage_s += min(took_s, LONGEST_COUNTED_TRY_S)
            tries_left, left_s = self._remaining(passing, tries, outage_s, busy_tries)
            if within_s is not None:
                left_s = min(left_s, within_s - spent_s)
            if tries_left <= 0 or left_s <= 0:
                if tries > 1:
                    passing.error.args = (f"{passing.error} (tried {tries} times in {outage_s:.0f} s)",)
                raise passing.error from passing.__cause__
            if not passing.busy:
                self.contact.lost(str(passing.error), left_s)
            pause = min(self._pause(passing, tries), left_s)
            await self.driver.sleep(pause)
            spent_s += pause
            outage_s += pause

    def present(self, answer: httpx.Response, *, again: bool) -> httpx.Response:
        """Return an answer unless it says that the server is away or busy.

        Raises:
            PassingError: it says so, and the request may be sent again.
        """
        self.contact.answered = True
        busy = answer.status_code == TOO_MANY_REQUESTS
        if busy or (again and answer.status_code in _AWAY_STATUS):
            error: ClientError = api_error(answer)
            if not busy:
                error = UnavailableError(str(error))
            raise PassingError(error, retry_after_s=retry_after_s(answer), busy=busy)
        return answer

    def check_open(self) -> None:
        """Check that the client can send.

        Raises:
            ClientClosedError: it cannot.
        """
        if self.driver.is_closed:
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
        return f"{self.driver.base_url} is not an mmaudio server; check --api-url or MMAUDIO_API_URL."

    def check(self, answer: httpx.Response, *, again: bool) -> httpx.Response:
        """Return an answer if it is one of an mmaudio server, and no refusal.

        Raises:
            ApiError: the server refused the request.
            WrongServerError: another server gave it.
            PassingError: a gateway may have given it while the server was away.
        """
        error = self._foreign(answer)
        if error is None:
            return answer
        if again and self.contact.served:  # half an answer, or the page of a gateway whose server is away
            raise PassingError(error)
        raise error

    def _foreign(self, answer: httpx.Response) -> WrongServerError | None:
        """Return what shows that an mmaudio server did not give this answer.

        Raises:
            ApiError: it did, and refused the request.
        """
        if answer.status_code in {httpx.codes.NOT_MODIFIED, httpx.codes.NO_CONTENT}:
            return None
        if not answer.is_success:
            refusal = api_error(answer)
            if refusal.code or answer.status_code not in _UNKNOWN_PATH:
                raise refusal
            return WrongServerError(f"The server answered {answer.status_code} at {answer.url.path}: {self._advice}")
        kind = answer.headers.get("Content-Type", "no content type")
        if "json" not in kind:
            return WrongServerError(f"{answer.url} answered with {kind} instead of JSON: {self._advice}")
        try:
            answer.json()
        except ValueError:
            return WrongServerError(f"{answer.url} answered with text that is not JSON: {self._advice}")
        return None

    def _lost_connection(self, exc: httpx.RequestError, *, again: bool) -> PassingError:
        """Return what a failed request means.

        Raises:
            UnavailableError: another try would meet the same, or may not be made.
        """
        url = exc.request.url
        same = url.host == self.driver.base_url.host
        server = self.driver.base_url if same else f"{url.scheme}://{url.netloc.decode('ascii')}"
        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
            passing = PassingError(UnreachableError(f"Cannot connect to {server}: {_reason(exc)}"))
        else:
            self.contact.connected = True
            error = UnavailableError(f"The connection to {server} broke: {_reason(exc)}")
            if not again or isinstance(exc, _LASTING):
                raise error from exc
            passing = PassingError(error)
        passing.__cause__ = exc
        return passing

    def _remaining(self, passing: PassingError, tries: int, outage_s: float, busy_tries: int) -> tuple[float, float]:
        """Return how many tries and seconds are left."""
        if passing.busy:
            return busy_tries - tries, LONGEST_RETRY_AFTER_S
        # Something answered the first connection and is away now: a restart, and no wrong address.
        gone = self.contact.connected and isinstance(passing.error, UnreachableError)
        if not self.contact.answered and not gone:
            if not self._wait_for_server and isinstance(passing.error, UnreachableError):
                return 0, 0
            if not self._patient_from_the_start:
                return TRIES - tries, LONGEST_PAUSE_S
        return 1, self.patience_s - outage_s

    def _pause(self, passing: PassingError, tries: int) -> float:
        # At most 2**9: after days of outage the power would no longer be a float.
        own = float(min(FIRST_PAUSE_S * 2 ** min(tries - 1, 9), LONGEST_PAUSE_S)) * (0.5 + 0.5 * self._rng())
        if passing.retry_after_s is None:
            return own
        # `Retry-After: 0` of a gateway must not make this a busy loop.
        return passing.retry_after_s if passing.busy else max(own, passing.retry_after_s)


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


def retry_after_s(answer: httpx.Response) -> float | None:
    """Return the pause in seconds that an answer asks for, at most `LONGEST_RETRY_AFTER_S`; None: none."""
    value = answer.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), LONGEST_RETRY_AFTER_S)
    until = _date(value)
    if until is None:
        return None
    # By the clock of whoever wrote the date, where the answer tells it.
    left = until - (_date(answer.headers.get("Date", "")) or datetime.now(UTC))
    return min(max(left.total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
