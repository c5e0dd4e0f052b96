"""What browsers need of a bucket: its CORS rules, whether it has them, and whether a preflight request passes.

A preflight asks as a browser does, at the address that signed URLs have, and so sees gateways and rules of the whole
server too; the bucket's own rules are looked at as well, because they can be read where that address is out of reach.
"""

from __future__ import annotations

import fnmatch
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from jobs.settings import Settings

# GET and HEAD: players and downloads of web pages; POST: the form of an upload; PUT: uploads with a signed URL.
METHODS = ("GET", "HEAD", "POST", "PUT")
ALLOWED_HEADERS = (
    "content-type", "content-md5", "range", "if-none-match", "x-amz-checksum-*", "x-amz-meta-*",
    "x-amz-sdk-checksum-algorithm",
)  # fmt: skip
EXPOSED_HEADERS = ("ETag", "Content-Length", "Content-Range", "Accept-Ranges", "x-amz-checksum-sha256")
MAX_AGE_S = 3600
# What the dashboard's own requests need; the rest is for other web pages.
CHECKED = {"GET": "range", "HEAD": "range", "POST": "content-type", "PUT": "x-amz-checksum-sha256"}
PREFLIGHT_TIMEOUT_S = 5.0


class PreflightFailedError(Exception):
    """Raised when no preflight request got an answer: the address cannot be reached from here."""


@dataclass
class CorsReport:
    """What was found.

    Attributes:
        missing: what browsers are refused, one sentence each.
        not_checked: what could not be looked at, and why.
        notes: what is different from the rules, but refuses nothing.
        looked: whether anything could be looked at.
    """

    missing: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looked: bool = False


def required_rules(origins: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the rules as `aws s3api put-bucket-cors --cors-configuration` takes them."""
    return {
        "CORSRules": [
            {
                "AllowedOrigins": list(origins),
                "AllowedMethods": list(METHODS),
                "AllowedHeaders": list(ALLOWED_HEADERS),
                "ExposeHeaders": list(EXPOSED_HEADERS),
                "MaxAgeSeconds": MAX_AGE_S,
            }
        ]
    }


def origins_of(settings: Settings) -> list[str]:
    """Return the origins that the dashboard is opened from, as the settings tell them; none: they do not."""
    found = []
    if settings.public_url:
        parts = urlsplit(settings.public_url)
        found.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower())
    found += [f"https://{name}" for name in settings.allowed_hosts if f"//{name}" not in "".join(found)]
    if not found and settings.listens_on_loopback:
        found = [f"http://{name}:{settings.api_port}" for name in ("127.0.0.1", "localhost")]
    return found


def parse_origin(text: str) -> str:
    """Return an origin such as `https://sounds.example.com`; raises ValueError with what is allowed."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - parsed, and checked, when it is asked for
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("give scheme and host, such as https://sounds.example.com")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("give scheme and host alone, such as https://sounds.example.com")
    return f"{parts.scheme}://{parts.netloc}".lower()


def missing_in_rules(rules: Iterable[Mapping[str, Any]], origins: Iterable[str]) -> list[str]:
    """Return what the rules of a bucket do not allow, one sentence for each origin and method."""
    missing = []
    known = list(rules)
    for origin in origins:
        for method, header in CHECKED.items():
            matching = [
                rule
                for rule in known
                if _matches(_example(origin), rule.get("AllowedOrigins", ()))
                and method in rule.get("AllowedMethods", ())
            ]
            if not matching:
                missing.append(f"{method} from {origin} is not allowed")
            elif not any(_matches(header, rule.get("AllowedHeaders", ())) for rule in matching):
                missing.append(f"{method} from {origin} is not allowed with the header {header}")
            elif method == "GET" and not any(_matches("etag", rule.get("ExposeHeaders", ())) for rule in matching):
                missing.append(f"the header ETag is not exposed to {origin}")
    return missing


def missing_in_preflights(urls: Mapping[str, str], origins: Iterable[str]) -> list[str]:
    """Ask as a browser does before it sends a file; return what is refused.

    Args:
        urls: the address of each method that the dashboard uses.

    Raises:
        PreflightFailedError: the address does not answer.
    """
    missing = []
    for origin in origins:
        for method, url in urls.items():
            refusal = _refusal(url, _example(origin), method, CHECKED[method])
            if refusal is not None:
                missing.append(f"{method} from {origin} is refused at {urlsplit(url).netloc}: {refusal}")
    return missing


def _refusal(url: str, origin: str, method: str, header: str) -> str | None:
    """Return why a browser would not send a request after its preflight; None: it would."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": header,
    }
    # The settings allow addresses of http and https alone.
    request = urllib.request.Request(url.partition("?")[0], method="OPTIONS", headers=headers)  # noqa: S310
    try:
        try:
            with urllib.request.urlopen(request, timeout=PREFLIGHT_TIMEOUT_S) as answer:  # noqa: S310
                status, got = answer.status, answer.headers
        except urllib.error.HTTPError as exc:
            with exc:
                status, got = exc.code, exc.headers
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise PreflightFailedError(f"{urlsplit(url).netloc} does not answer ({reason})") from exc
    if not 200 <= status < 300:
        return f"the preflight request is answered with {status}"
    if got.get("Access-Control-Allow-Origin") not in {"*", origin}:
        return "the answer does not allow the origin"
    methods = {one.strip().upper() for one in got.get("Access-Control-Allow-Methods", "").split(",")}
    # Browsers need no permission for the methods of forms.
    if method not in {"GET", "HEAD", "POST"} and not methods & {method, "*"}:
        return "the answer does not allow the method"
    allowed = [one.strip() for one in got.get("Access-Control-Allow-Headers", "").split(",")]
    return None if _matches(header, allowed) else f"the answer does not allow the header {header}"


def _example(origin: str) -> str:
    """Return an origin that a pattern with a wildcard stands for."""
    return origin.replace("*", "any")


def _matches(value: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(value.lower(), str(pattern).lower().replace("[", "[[]")) for pattern in patterns)
