"""Authenticates SNS messages by Amazon's certificates, and confirms subscriptions at Amazon's address only."""

from __future__ import annotations

import base64
import logging
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from api.shares import Places
from jobs.errors import EventsRefusedError
from jobs.outbound import policy as outbound
from jobs.outbound.calls import read
from jobs.outbound.errors import OutboundError, OutboundTooLargeError
from jobs.outbound.urls import DEFAULT_PORTS, OutboundUrl, parse_url
from jobs.settings import Settings
from jobs.triggers.event_parsers.sns import NOTIFICATION

# The host that signs and confirms: SNS of a region, also of China. No other host can be trusted.
_HOST = re.compile(r"sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?")
_SIGNED_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SIGNED_SUBSCRIPTION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_HASHES: dict[str, type[HashAlgorithm]] = {"1": SHA1, "2": SHA256}
MAX_ANSWER_BYTES = 64 * 1024
TIMEOUT_S = 3.0
# Most threads that wait for SNS at once; the others refuse, and SNS sends again.
FETCHERS = 2
KEPT_CERTIFICATES = 16

log = logging.getLogger(__name__)


class SnsRefusedError(EventsRefusedError):
    """Raised for a message that SNS did not sign, or with a URL that is not SNS's."""


class SnsUnreachableError(Exception):
    """Raised when SNS does not answer this server; SNS sends the message again."""


def sns_policy(settings: Settings | None = None) -> outbound.OutboundPolicy:
    """Return what calls to SNS may do. A network of the operator's own may have an endpoint of SNS."""
    networks = outbound.networks_of(settings) if settings is not None else ()
    return outbound.OutboundPolicy(
        allowed_networks=networks,
        max_bytes=MAX_ANSWER_BYTES,
        connect_s=TIMEOUT_S,
        idle_s=TIMEOUT_S,
        total_s=2 * TIMEOUT_S,
    )


class SnsGate:
    """Accepts messages that SNS signed. Caches Amazon's certificates, so that each is fetched once per process.

    Args:
        fetch: returns the content of a URL that was checked to be SNS's, or raises OutboundError or httpx.HTTPError.
            Default: opens it within `policy`.
        policy: what those calls may do; None: `sns_policy()`.
    """

    def __init__(
        self, fetch: Callable[[str], bytes] | None = None, *, policy: outbound.OutboundPolicy | None = None
    ) -> None:
        self._fetch = fetch or partial(read, policy=policy or sns_policy())
        self._lock = threading.Lock()
        self._places = Places(FETCHERS)
        self._certificates: dict[str, x509.Certificate] = {}

    def check(self, document: dict[str, Any]) -> None:
        """Check the signature of a message.

        Raises:
            SnsRefusedError: the signature is not SNS's.
            SnsUnreachableError: the certificate could not be fetched.
        """
        version = str(document.get("SignatureVersion"))
        hash_ = _HASHES.get(version)
        if hash_ is None:
            raise SnsRefusedError(f"Got SignatureVersion {version[:20]!r}; supported are 1 and 2.")
        certificate = self._certificate(str(document.get("SigningCertURL", "")))
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise SnsRefusedError("The certificate at SigningCertURL has no RSA key.")
        try:
            signature = base64.b64decode(str(document.get("Signature", "")), validate=True)
            key.verify(signature, _signed_text(document), padding.PKCS1v15(), hash_())
        except (ValueError, InvalidSignature) as exc:
            raise SnsRefusedError("The signature does not match the message.") from exc

    def confirm(self, document: dict[str, Any]) -> None:
        """Confirm a subscription.

        Raises:
            SnsRefusedError: the URL is not SNS's.
            SnsUnreachableError: SNS did not accept it; SNS asks again.
        """
        url = str(document.get("SubscribeURL", ""))
        _check_url(url, "SubscribeURL")
        self._get(url)
        log.info("confirmed the subscription of %s", document.get("TopicArn"))

    def _certificate(self, url: str) -> x509.Certificate:
        if not _check_url(url, "SigningCertURL").target.partition("?")[0].endswith(".pem"):
            raise SnsRefusedError("SigningCertURL must end in .pem.")
        with self._lock:
            known = self._certificates.get(url)
        if known is None:
            try:
                known = x509.load_pem_x509_certificate(self._get(url))
            except ValueError as exc:
                raise SnsRefusedError("SigningCertURL does not return a certificate.") from exc
            with self._lock:
                if len(self._certificates) >= KEPT_CERTIFICATES:
                    self._certificates.clear()
                self._certificates[url] = known
        if not known.not_valid_before_utc <= datetime.now(UTC) <= known.not_valid_after_utc:
            raise SnsRefusedError("The certificate at SigningCertURL has expired or is not valid yet.")
        return known

    def _get(self, url: str) -> bytes:
        with self._places.place(wait_s=1.0) as held:
            if not held:
                raise SnsUnreachableError("Too many messages wait for SNS's certificates.")
            try:
                return self._fetch(url)
            except OutboundTooLargeError as exc:
                raise SnsRefusedError(f"SNS sent more than {MAX_ANSWER_BYTES} bytes.") from exc
            except (OutboundError, httpx.HTTPError) as exc:
                # Also when its name leads to a network of the operator's own: once that is allowed, SNS is answered.
                raise SnsUnreachableError(f"SNS did not answer: {str(exc) or 'no answer in time'}") from exc


def _check_url(url: str, field: str) -> OutboundUrl:
    try:
        parsed = parse_url(url)
    except OutboundError as exc:
        raise SnsRefusedError(f"{field} is not allowed: {exc.message}") from exc
    if parsed.scheme != "https" or parsed.port != DEFAULT_PORTS["https"] or not _HOST.fullmatch(parsed.host):
        raise SnsRefusedError(f"{field} must be an https URL of sns.REGION.amazonaws.com.")
    return parsed


def _signed_text(document: dict[str, Any]) -> bytes:
    """Return the text that SNS signs: names and values, one per line, in the order of its documentation."""
    names = _SIGNED_NOTIFICATION if document["Type"] == NOTIFICATION else _SIGNED_SUBSCRIPTION
    lines = [f"{name}\n{document[name]}\n" for name in names if document.get(name) is not None]
    return "".join(lines).encode(errors="surrogatepass")
