"""Parses URLs from outside, strictly: what two programs could read in two ways is refused.

Opens nothing and looks up nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import quote

from jobs.outbound.addresses import Address
from jobs.outbound.errors import OutboundRefusedError

MAX_URL_CHARS = 2048
HIGHEST_PORT = 65_535
DEFAULT_PORTS = {"http": 80, "https": 443}
_FORM = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(\?(?P<query>[^#]*))?(#.*)?",
    re.DOTALL,
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:(?P<port>[0-9]{1,5}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
# Also what resolvers take for a number: 0x7f, 0177.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
# What a URL may have as it is; the rest is percent-encoded as browsers do it.
_SAFE = "%/:=&?~+!$,;'@()*[]-._"
_MAX_HOST_CHARS = 253
# Stands for a query that is not shown.
HIDDEN_QUERY = "?..."


@dataclass(frozen=True)
class OutboundUrl:
    """A URL in parts that cannot be read in two ways.

    Attributes:
        host: a name in ASCII and lower case without a dot at its end, or an address without brackets.
        address: the address that the host is; None: it is a name.
        target: path and query, percent-encoded.
    """

    scheme: str
    host: str
    address: Address | None
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def full(self) -> str:
        """The whole URL in ASCII. Its query may have secrets."""
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def shown(self) -> str:
        """The URL without its query, which may have secrets: for logs, messages and documents."""
        path, question, _ = self.target.partition("?")
        return f"{self.scheme}://{self.authority}{path}{HIDDEN_QUERY if question else ''}"

    @property
    def hides_query(self) -> bool:
        """Whether it is the shown form of another URL, and so leads nowhere."""
        return self.target.endswith(HIDDEN_QUERY)

    def __str__(self) -> str:
        return self.shown


def parse_url(url: str) -> OutboundUrl:
    """Return a URL from outside in parts. A fragment is left out.

    Raises:
        OutboundRefusedError: it has another scheme than http and https, user or password, a character that does not
            belong there, or a host that is neither a name nor a plain address.
    """
    if len(url) > MAX_URL_CHARS:
        raise OutboundRefusedError(f"The URL has {len(url)} characters, at most {MAX_URL_CHARS} are allowed.")
    if not url.isprintable() or any(character.isspace() or character == "\\" for character in url):
        raise OutboundRefusedError("The URL has a space, a control character or a backslash; percent-encode it.")
    match = _FORM.fullmatch(url)
    scheme = match["scheme"].lower() if match else ""
    if match is None or scheme not in DEFAULT_PORTS:
        raise OutboundRefusedError("The URL must begin with https:// or http://.")
    if "@" in match["authority"]:
        raise OutboundRefusedError("The URL has a user or password before its host, which is not allowed.")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None:
        raise OutboundRefusedError("The URL has no valid host and port, such as example.com or example.com:8443.")
    port = int(authority["port"]) if authority["port"] is not None else DEFAULT_PORTS[scheme]
    if not 1 <= port <= HIGHEST_PORT:
        raise OutboundRefusedError(f"The port of the URL is {port}; it must be from 1 to {HIGHEST_PORT}.")
    host, address = _parse_host(authority["host"])
    parsed = OutboundUrl(scheme, host, address, port, _target(match["path"], match["query"]))
    if len(parsed.full) > MAX_URL_CHARS:
        raise OutboundRefusedError(f"The URL, percent-encoded, has more than the allowed {MAX_URL_CHARS} characters.")
    return parsed


def shown_url(text: str) -> str:
    """Return a URL without user, password, query and fragment, for logs; what is no URL is cut at its first `?`."""
    try:
        return parse_url(text).shown
    except OutboundRefusedError:
        start = re.split(r"[?#]", text, maxsplit=1)[0]
        return re.sub(r"//[^/]*@", "//", start)[:200]


def _target(path: str, query: str | None) -> str:
    try:
        target = quote(path or "/", safe=_SAFE)
        return f"{target}?{quote(query, safe=_SAFE)}" if query else target
    except UnicodeEncodeError as exc:
        raise OutboundRefusedError("The URL has half of a surrogate pair, which is not a character.") from exc


def _parse_host(text: str) -> tuple[str, Address | None]:
    if text.startswith("["):
        try:
            address = IPv6Address(text[1:-1])
        except ValueError as exc:
            raise OutboundRefusedError("The host of the URL is not a valid IPv6 address.") from exc
        return str(address), address
    name = _ascii_name(text).removesuffix(".")
    labels = name.split(".")
    if len(name) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise OutboundRefusedError("The host of the URL is not a valid name.")
    if not _NUMBER.fullmatch(labels[-1]):
        return name, None
    # Resolvers read 2130706433, 0x7f.1, 0177.0.0.1 and 127.1 as addresses; only the plain form is one here.
    try:
        plain = ipaddress.IPv4Address(name)
    except ValueError as exc:
        raise OutboundRefusedError(
            "The host of the URL is a number, but not an address such as 93.184.216.34."
        ) from exc
    return str(plain), plain


def _ascii_name(text: str) -> str:
    if text.isascii():
        return text.lower()
    # Imported only here: most names are ASCII.
    import idna

    try:
        return idna.encode(text, uts46=True, std3_rules=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError) as exc:
        raise OutboundRefusedError("The host of the URL is not a valid international name.") from exc
