"""Is it really SNS? Signatures checked with Amazon's certificate, subscriptions confirmed at Amazon's address only."""

from __future__ import annotations

import base64
import logging
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from jobs.errors import DomainError
from jobs.triggers.event_parsers.sns import NOTIFICATION

# The host that signs and confirms: SNS of a region, also of China. Anything else could be anybody's.
_HOST = re.compile(r"sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?")
_SIGNED_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SIGNED_SUBSCRIPTION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_HASHES: dict[str, type[HashAlgorithm]] = {"1": SHA1, "2": SHA256}
MAX_ANSWER_BYTES = 64 * 1024
TIMEOUT_S = 10.0
KEPT_CERTIFICATES = 16

log = logging.getLogger(__name__)


class SnsRefusedError(DomainError):
    """Raised for an envelope that SNS did not sign, or that names an address which is not SNS's."""

    code = "events_refused"


class SnsUnreachableError(Exception):
    """Raised when SNS does not answer us; it will send again."""


def fetch_from_sns(url: str) -> bytes:
    """Get what lies at an address of SNS; follows nothing, reads only a little."""
    with (
        httpx.Client(follow_redirects=False, timeout=TIMEOUT_S) as client,
        client.stream("GET", url) as answer,
    ):
        answer.raise_for_status()
        data = b""
        for chunk in answer.iter_bytes():
            data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise SnsRefusedError(f"More than {MAX_ANSWER_BYTES} bytes came from SNS.")
        return data


class SnsGate:
    """Lets envelopes through that SNS signed. Keeps Amazon's certificates, so that each is fetched once a process.

    Args:
        fetch: gets what lies at an address; the address was checked to be SNS's.
    """

    def __init__(self, fetch: Callable[[str], bytes] = fetch_from_sns) -> None:
        self._fetch, self._lock = fetch, threading.Lock()
        self._certificates: dict[str, x509.Certificate] = {}

    def check(self, document: dict[str, Any]) -> None:
        """Check the signature of an envelope.

        Raises:
            SnsRefusedError: it is not SNS's.
            SnsUnreachableError: the certificate could not be had just now.
        """
        hash_ = _HASHES.get(str(document.get("SignatureVersion")))
        if hash_ is None:
            raise SnsRefusedError("SignatureVersion must be 1 or 2.")
        certificate = self._certificate(str(document.get("SigningCertURL", "")))
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise SnsRefusedError("SNS signs with RSA; the certificate is for something else.")
        try:
            signature = base64.b64decode(str(document.get("Signature", "")), validate=True)
            key.verify(signature, _signed_text(document), padding.PKCS1v15(), hash_())
        except (ValueError, InvalidSignature) as exc:
            raise SnsRefusedError("The signature does not fit the envelope.") from exc

    def confirm(self, document: dict[str, Any]) -> None:
        """Say yes to a subscription, at SNS's own address.

        Raises:
            SnsRefusedError: the address is not SNS's.
            SnsUnreachableError: SNS did not take it; it will ask again.
        """
        url = str(document.get("SubscribeURL", ""))
        _check_address(url, "SubscribeURL")
        self._get(url)
        log.info("confirmed the subscription of %s", document.get("TopicArn"))

    def _certificate(self, url: str) -> x509.Certificate:
        _check_address(url, "SigningCertURL")
        if not urlsplit(url).path.endswith(".pem"):
            raise SnsRefusedError("SigningCertURL names no certificate.")
        with self._lock:
            known = self._certificates.get(url)
        if known is None:
            try:
                known = x509.load_pem_x509_certificate(self._get(url))
            except ValueError as exc:
                raise SnsRefusedError("What lies at SigningCertURL is no certificate.") from exc
            with self._lock:
                if len(self._certificates) >= KEPT_CERTIFICATES:
                    self._certificates.clear()
                self._certificates[url] = known
        if not known.not_valid_before_utc <= datetime.now(UTC) <= known.not_valid_after_utc:
            raise SnsRefusedError("The certificate at SigningCertURL has expired.")
        return known

    def _get(self, url: str) -> bytes:
        try:
            return self._fetch(url)
        except httpx.HTTPError as exc:
            raise SnsUnreachableError(f"SNS did not answer: {type(exc).__name__}.") from exc


def _check_address(url: str, field: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise SnsRefusedError(f"{field} is no address.") from exc
    plain = parts.username is None and parts.password is None and port in {None, 443}
    if parts.scheme != "https" or not plain or not _HOST.fullmatch(parts.hostname or ""):
        raise SnsRefusedError(f"{field} must be an https address of sns.REGION.amazonaws.com.")


def _signed_text(document: dict[str, Any]) -> bytes:
    """Return what SNS signs: names and values, a line each, in the order of its documentation."""
    names = _SIGNED_NOTIFICATION if document["Type"] == NOTIFICATION else _SIGNED_SUBSCRIPTION
    lines = [f"{name}\n{document[name]}\n" for name in names if document.get(name) is not None]
    return "".join(lines).encode(errors="surrogatepass")
