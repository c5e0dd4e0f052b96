"""The HTTP client underneath: the server's address, its key, and which requests go through a proxy."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Generator, Mapping
from typing import TypeVar

import httpx

from mmaudio_client.errors import InvalidAddressError, InvalidKeyError
from mmaudio_client.stored_keys import StoredKeys, key_file

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_TIMEOUT_S = 10.0
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


class KeyAuth(httpx.Auth):
    """Sends an API key to the server it belongs to, and to no other that a link leads to.

    Links need not lead back to the address that was called: the server's public URL may be another, and so is an
    object store's. httpx itself drops the header when a redirect leaves the server.
    """

    def __init__(self, key: str, server: httpx.URL) -> None:
        self._key, self._origin = key, _origin(server)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _origin(request.url) == self._origin:
            request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


def address_and_key(
    base_url: str | None, api_key: str | None, environment: Mapping[str, str] = os.environ
) -> tuple[str, str | None]:
    """Return the server's address and its key; what is not given is that of the environment.

    A key that neither has may have been stored by `mmaudio login`.

    Raises:
        InvalidAddressError: the address cannot be used.
        InvalidKeyError: the file of stored keys cannot be used.
    """
    if base_url is None:
        base_url = environment.get("MMAUDIO_API_URL") or DEFAULT_URL
    if api_key is None:
        api_key = environment.get("MMAUDIO_API_KEY") or StoredKeys(key_file(environment)).get(parse_address(base_url))
    return base_url, api_key


def open_http(
    base_url: str, *, api_key: str | None, timeout_s: float, transport: httpx.BaseTransport | None = None
) -> httpx.Client:
    """Return an HTTP client for one server.

    Raises:
        InvalidAddressError: `base_url` is not an http(s) URL, or a proxy in the environment cannot be used.
        InvalidKeyError: `api_key` is not printable ASCII.
    """
    return _opened(httpx.Client, base_url, api_key, timeout_s, transport)


def open_async_http(
    base_url: str, *, api_key: str | None, timeout_s: float, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """As `open_http`, for an event loop."""
    return _opened(httpx.AsyncClient, base_url, api_key, timeout_s, transport)


def _opened(kind: Callable[..., Http], base_url: str, api_key: str | None, timeout_s: float, transport: object) -> Http:
    """Return a client of httpx.

    Proxies are those of the environment (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`), but a loopback address
    is always called directly: a proxy could only reach its own loopback interface.
    """
    server = parse_address(base_url)
    key = (api_key or "").strip()  # a line break at the end of a secret's file is not part of the key
    if not (key.isascii() and key.isprintable()):
        raise InvalidKeyError(
            "The API key contains a line break, a control character or a character that is not ASCII; "
            "check --api-key or MMAUDIO_API_KEY."
        )
    direct = {f"all://{host}": None for host in ("*localhost", "127.0.0.1", "[::1]")}
    loopback = is_loopback(server)
    if loopback:
        direct[f"all://{_bracketed(server.host)}"] = None

    def opened(*, trust_env: bool) -> Http:
        return kind(
            base_url=server,
            auth=KeyAuth(key, server) if key else None,
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            trust_env=trust_env,
            mounts=direct if transport is None else None,
        )

    try:
        return opened(trust_env=True)
    except (ImportError, ValueError, httpx.InvalidURL) as exc:
        if loopback:
            return opened(trust_env=False)
        raise InvalidAddressError(f"A proxy setting of the environment cannot be used: {exc}") from exc


def parse_address(base_url: str) -> httpx.URL:
    """Return the URL of a server.

    Raises:
        InvalidAddressError: it is not an http(s) URL with a host, or it ends in `/v1`.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as exc:
        raise InvalidAddressError(f"Got the server address {base_url!r}: {exc}.") from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidAddressError(f"Got the server address {base_url!r}; give one like {DEFAULT_URL}.")
    if url.path.rstrip("/").endswith("/v1"):
        raise InvalidAddressError(f"Got the server address {base_url!r}; remove /v1 from its end.")
    return url


def is_loopback(url: httpx.URL) -> bool:
    """Return whether a URL's host is this machine's loopback interface, judged without DNS."""
    if url.host == "localhost" or url.host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
