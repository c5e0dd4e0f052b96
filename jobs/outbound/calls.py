"""`fetch` a file, `read` a small document, `post` a body: each to a URL from outside, within a policy.

For every URL, that of a redirect too: parse, check, look the name up once, check every address, connect to one of
them. Nothing comes from the environment: no proxy, no credentials.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpcore

from jobs.outbound.addresses import Address
from jobs.outbound.connection import CertificateInvalidError, Deadline, PinnedBackend, tls_context
from jobs.outbound.errors import (
    OutboundContentError,
    OutboundError,
    OutboundRefusedError,
    OutboundStatusError,
    OutboundTooLargeError,
    OutboundUnreachableError,
)
from jobs.outbound.policy import OutboundPolicy, check_addresses, check_url
from jobs.outbound.resolving import Resolver, resolve, system_resolver
from jobs.outbound.urls import OutboundUrl

USER_AGENT = "mmaudio-platform"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Set by this module alone; a caller's would make two.
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent"})


@dataclass(frozen=True)
class Fetched:
    """What `fetch` wrote to its file."""

    size_bytes: int
    sha256: str
    content_type: str


@dataclass(frozen=True)
class OutboundAnswer:
    """An answer to `post`, whatever its status.

    Attributes:
        headers: names in lower case; of several with one name the last.
        body_start: the first `max_bytes` of the body, or fewer when the rest did not come in time.
    """

    status: int
    headers: Mapping[str, str]
    body_start: bytes


def fetch(
    url: str,
    target: Path,
    policy: OutboundPolicy,
    *,
    resolver: Resolver = system_resolver,
    interrupt: Callable[[], None] = lambda: None,
) -> Fetched:
    """Download a URL to a file, following the redirects that the policy allows; a file that is not whole is removed.

    Args:
        interrupt: called about every second; what it raises ends the download.

    Raises:
        OutboundRefusedError: the policy does not allow the URL or one that it leads to; nothing was connected to there.
        OutboundUnreachableError: a host does not answer, or too slowly.
        OutboundStatusError: another status than 200.
        OutboundTooLargeError, OutboundContentError: see there.
        OSError: the file could not be written.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with target.open("wb") as file, _opened(url, policy, resolver, interrupt) as response:
            for chunk in _content(response, policy):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
            content_type = _headers(response).get("content-type", "")
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)
        raise
    return Fetched(size, digest.hexdigest(), content_type)


def read(url: str, policy: OutboundPolicy, *, resolver: Resolver = system_resolver) -> bytes:
    """Return the content of a URL; raises what `fetch` raises, except OSError."""
    with _opened(url, policy, resolver, lambda: None) as response:
        return b"".join(_content(response, policy))


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    policy: OutboundPolicy,
    *,
    resolver: Resolver = system_resolver,
) -> OutboundAnswer:
    """Send a body and return the answer of any status; redirects are answers, too, and are not followed.

    Raises:
        OutboundRefusedError: the policy does not allow the URL; nothing was connected to.
        OutboundUnreachableError: the host does not answer, or too slowly. Whether it got the body is unknown.
    """
    deadline = Deadline(policy.total_s)
    with _exchange("POST", check_url(url, policy), policy, deadline, resolver, headers, body) as response:
        body_start = b""
        with contextlib.suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            for chunk in response.iter_stream():
                body_start += chunk
                if len(body_start) >= policy.max_bytes:
                    break
        return OutboundAnswer(response.status, _headers(response), body_start[: policy.max_bytes])


@contextlib.contextmanager
def _opened(
    url: str, policy: OutboundPolicy, resolver: Resolver, interrupt: Callable[[], None]
) -> Iterator[httpcore.Response]:
    """Give the answer with status 200 that a URL leads to."""
    deadline, current = Deadline(policy.total_s, interrupt), check_url(url, policy)
    for followed in range(policy.max_redirects + 1):
        with _exchange("GET", current, policy, deadline, resolver, {}, None) as response:
            if response.status == 200:
                yield response
                return
            location = _headers(response).get("location")
            if response.status not in _REDIRECTS or location is None or not policy.max_redirects:
                raise OutboundStatusError(f"{current.shown} answered with status {response.status}.", response.status)
        if followed < policy.max_redirects:
            current = _next_url(current, location, policy)
    raise OutboundRefusedError(f"The URL leads through more than {policy.max_redirects} redirects.")


def _next_url(current: OutboundUrl, location: str, policy: OutboundPolicy) -> OutboundUrl:
    try:
        following = check_url(urljoin(current.full, location), policy)
    except OutboundRefusedError as exc:
        raise OutboundRefusedError(f"{current.shown} redirects to a URL that is not allowed: {exc.message}") from exc
    except ValueError as exc:
        raise OutboundRefusedError(f"{current.shown} redirects to something that is no URL.") from exc
    if current.scheme == "https" and following.scheme != "https":
        raise OutboundRefusedError(f"{current.shown} redirects from https to http, which is not allowed.")
    return following


@contextlib.contextmanager
def _exchange(
    method: str,
    url: OutboundUrl,
    policy: OutboundPolicy,
    deadline: Deadline,
    resolver: Resolver,
    headers: Mapping[str, str],
    body: bytes | None,
) -> Iterator[httpcore.Response]:
    """Give the answer of one request over a connection of its own, which is closed afterwards."""
    try:
        addresses: tuple[Address, ...] = (url.address,) if url.address is not None else ()
        if url.address is None:
            addresses = resolve(url.host, url.port, timeout_s=deadline.limit(policy.connect_s), resolver=resolver)
        check_addresses(url, addresses, policy)
        connection = httpcore.HTTPConnection(
            httpcore.Origin(url.scheme.encode(), url.host.encode(), url.port),
            ssl_context=tls_context(policy.ca_file) if url.scheme == "https" else None,
            network_backend=PinnedBackend(addresses, deadline),
        )
        with (
            connection,
            connection.stream(
                method,
                httpcore.URL(
                    scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
                ),
                headers=_sent_headers(url, headers),
                content=body,
                extensions={
                    "timeout": {
                        "connect": policy.connect_s,
                        "read": policy.idle_s,
                        "write": policy.idle_s,
                        "pool": None,
                    }
                },
            ) as response,
        ):
            yield response
    except httpcore.TimeoutException as exc:
        raise OutboundUnreachableError(f"{url.shown} did not answer in time.") from exc
    except CertificateInvalidError as exc:
        raise OutboundUnreachableError(f"{url.shown} has no certificate that is valid for this name.") from exc
    except httpcore.ConnectError as exc:
        raise OutboundUnreachableError(f"{url.shown} could not be connected to.") from exc
    except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
        raise OutboundUnreachableError(f"The answer of {url.shown} broke off or is not HTTP.") from exc


def _sent_headers(url: OutboundUrl, headers: Mapping[str, str]) -> list[tuple[str | bytes, str | bytes]]:
    return [
        ("Host", url.authority),
        ("User-Agent", USER_AGENT),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
        *((name, value) for name, value in headers.items() if name.lower() not in _OWN_HEADERS),
    ]


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def _content(response: httpcore.Response, policy: OutboundPolicy) -> Iterator[bytes]:
    headers, size = _headers(response), 0
    if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise OutboundContentError("The host sent compressed content, which was not asked for.")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > policy.max_bytes:
        raise _too_large(policy)
    for chunk in response.iter_stream():
        size += len(chunk)
        if size > policy.max_bytes:
            raise _too_large(policy)
        yield chunk


def _too_large(policy: OutboundPolicy) -> OutboundError:
    return OutboundTooLargeError(f"The URL has more than the allowed {policy.max_bytes} bytes.")
