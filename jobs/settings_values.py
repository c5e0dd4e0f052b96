"""Checks of single values that settings have: addresses, URLs, devices. Opens nothing and looks up nothing.

Each check returns the value, or raises ValueError with what is allowed (`give ...`); the caller names the setting.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

HIGHEST_PORT = 65_535
_BIND = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:\s/]+):(?P<port>\d{1,9})", re.ASCII)
_DEVICE = re.compile(r"cpu(:\d+)?|cuda:\d+", re.ASCII)
# A name, a wildcard before one, or an address; an IPv6 address comes without its brackets.
_HOST_PATTERN = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*|[0-9a-f:.]+")
_PLACEHOLDERS = ("change-me", "changeme", "change_me")
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^/?#@:\s]*):(?P<password>[^\s]*)@")
_SECRET_QUERY = re.compile(
    r"(?i)(?P<name>[?&][\w-]*(password|passphrase|secret|token|signature|credential|api_?key)[\w-]*=)[^&#\s'\"]*"
)


def parse_bind(value: str) -> tuple[str, int]:
    """Return host (IPv6 in its brackets) and port of `address:port`."""
    match = _BIND.fullmatch(value)
    if match is None:
        example = f"127.0.0.1:{value}" if re.fullmatch(r"\d{1,5}", value) else "127.0.0.1:8000 or [::1]:8000"
        raise ValueError(f"give address:port, such as {example}")
    port = int(match["port"])
    if not 1 <= port <= HIGHEST_PORT:
        raise ValueError(f"give a port from 1 to {HIGHEST_PORT}")
    host = match["host"]
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as exc:
            raise ValueError("give an IPv6 address in the brackets, such as [::1]:8000") from exc
    return host, port


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the host."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_database_url(value: str) -> str:
    """Return a SQLAlchemy URL of a database that the platform supports."""
    allowed = "give sqlite:////absolute/path.db or postgresql+psycopg://user:password@host:5432/database"
    if value.startswith("sqlite:"):
        path = value.removeprefix("sqlite:///")
        if path in {value, "", ":memory:"}:
            raise ValueError(f"{allowed}; several processes share the database, so it must be a file")
        return value
    # Imported only here, because it takes long and most commands use SQLite.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(value)
    except (ArgumentError, ValueError) as exc:
        raise ValueError(allowed) from exc
    if url.drivername != "postgresql+psycopg" or not url.database:
        raise ValueError(allowed)
    return value


def check_redis_url(value: str) -> str:
    """Return a URL of Redis or Valkey."""
    parts = _split(value)
    if parts is None or parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError("give redis://host:6379/0, or rediss://... for TLS")
    if not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError("give the number of a database after the host, such as redis://host:6379/0")
    return value


def check_storage_url(value: str) -> str:
    """Return a URL of a folder or of a bucket."""
    parts = _split(value)
    folder = parts is not None and parts.scheme == "file" and not parts.netloc and unquote(parts.path).startswith("/")
    bucket = parts is not None and parts.scheme == "s3" and bool(parts.netloc)
    if not folder and not bucket:
        raise ValueError("give file:///absolute/folder or s3://bucket/prefix")
    return value


def check_http_url(value: str) -> str:
    """Return an http:// or https:// URL."""
    parts = _split(value)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("give a URL that begins with http:// or https://")
    return value


def check_public_http_url(value: str) -> str:
    """Return an http:// or https:// URL that callers are given: without user, password, query and fragment."""
    check_http_url(value)
    parts = urlsplit(value)
    if "@" in parts.netloc or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("give a URL without user, password, query and fragment, such as https://s3.example.com")
    return value


def check_host_pattern(value: str) -> str:
    """Return a host name or address in lower case: `name`, `name:port`, `[IPv6]:port` or `*.domain`."""
    allowed = "give host names such as sounds.example.com, sounds.example.com:8443 or *.example.com"
    if value == "*" or value.startswith("*:"):
        raise ValueError(f"{allowed}; `*` would turn the check off")
    parts = _split(f"//{value}")
    name = parts.hostname if parts is not None else None
    if parts is None or not name or parts.netloc != value or "@" in value or not _HOST_PATTERN.fullmatch(name):
        raise ValueError(allowed)
    return value.lower()


def check_source_host(value: str) -> str:
    """Return a pattern of hosts that inputs come from, in lower case: `name`, `*.domain` or `*`."""
    name = value.lower().removesuffix(".")
    if name != "*" and (":" in name or not _HOST_PATTERN.fullmatch(name)):
        raise ValueError("give host names such as cdn.example.com or *.example.com, without a port, or * for all")
    return name


def check_network(value: str) -> str:
    """Return a network of IPv4 or IPv6 addresses."""
    try:
        network = ipaddress.ip_network(value)
    except ValueError as exc:
        raise ValueError("give networks such as 10.20.0.0/16 or fd00:1::/48, their first address and a length") from exc
    if network.prefixlen == 0:
        raise ValueError("a network of all addresses would turn the check off; give smaller ones")
    return str(network)


def check_secret(value: str, *, min_chars: int) -> str:
    """Return a secret that is long enough and no placeholder of an example."""
    if len(value) < min_chars:
        raise ValueError(f"it has {len(value)} characters, give at least {min_chars}, such as `openssl rand -hex 32`")
    if value.lower().startswith(_PLACEHOLDERS):
        raise ValueError("it is the placeholder of an example; give a random value, such as `openssl rand -hex 32`")
    return value


def split_secrets(value: str) -> list[str]:
    """Return the secrets of a list separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


def check_secrets(value: str, *, min_chars: int, at_most: int) -> str:
    """Return a list of secrets, separated by commas, when each is one that `check_secret` accepts."""
    secrets = split_secrets(value)
    if len(secrets) > at_most:
        raise ValueError(f"it has {len(secrets)} keys, give at most {at_most}")
    for secret in secrets:
        check_secret(secret, min_chars=min_chars)
    return value


def check_devices(value: str) -> str:
    """Return a list of devices as it was written, when each name is one that could exist."""
    names = [part.strip() for part in value.split(",") if part.strip()]
    if names == ["auto"]:
        return value
    if not names or not all(_DEVICE.fullmatch(name) for name in names):
        raise ValueError("give auto, or a list such as cuda:0,cuda:1 or cpu:0,cpu:1")
    if len(set(names)) != len(names):
        raise ValueError("give each device once")
    return value


def mask_url(text: str) -> str:
    """Return a text with the passwords of all URLs in it replaced by `***`."""
    masked = _USERINFO.sub(r"\g<scheme>\g<user>:***@", text)
    return _SECRET_QUERY.sub(r"\g<name>***", masked)


def _split(value: str) -> SplitResult | None:
    """Return the parts of a URL; None when it has a bad port or address."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - parsed, and checked, when it is asked for
    except ValueError:
        return None
    return parts
