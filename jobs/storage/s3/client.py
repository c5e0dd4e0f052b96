"""The boto3 clients of everything that talks to S3: one per process and set of options.

Building a client costs 0.1 to 0.3 s of CPU (botocore parses its service models), so stores, readers and deliveries
share them. Clients may be used by several threads at once; building them is serialised by a lock.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

import boto3
from botocore.client import Config

from jobs.settings import Settings
from jobs.storage.protocol import CallLimits

DEFAULT_LIMITS = CallLimits()
MAX_CONNECTIONS = 32
"""Connections a client keeps open: a worker's slots transfer up to four parts each through the same client."""
_CREDENTIAL_VARIABLES = (
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_REGION",
)


def _credential_source() -> tuple[str | None, ...]:
    return tuple(os.environ.get(name) for name in _CREDENTIAL_VARIABLES)


@dataclass(frozen=True)
class ClientOptions:
    """What makes two clients different.

    Attributes:
        endpoint_url: address of an S3-compatible server; None is AWS.
        region: None: as boto3's own configuration says.
        addressing_style: `auto`, `path` or `virtual`.
        retry_mode: botocore's retries of each call, `standard` or `adaptive`.
        max_attempts: tries of each call in all.
        connect_timeout_s, read_timeout_s: see `CallLimits`.
        credential_source: the environment variables by which boto3 finds credentials and region.
    """

    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: str = "auto"
    retry_mode: Literal["standard", "adaptive"] = "standard"
    max_attempts: int = 5
    connect_timeout_s: float = DEFAULT_LIMITS.connect_s
    read_timeout_s: float = DEFAULT_LIMITS.read_s
    credential_source: tuple[str | None, ...] = field(default_factory=_credential_source, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings, limits: CallLimits = DEFAULT_LIMITS) -> ClientOptions:
        """Return the options for the endpoint that the settings name."""
        return cls(
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            addressing_style=settings.s3_addressing_style,
            retry_mode=settings.s3_retry_mode,
            max_attempts=limits.tries or settings.s3_max_attempts,
            connect_timeout_s=limits.connect_s,
            read_timeout_s=limits.read_s,
        )


_clients: dict[ClientOptions, Any] = {}
_lock = threading.Lock()


def s3_client(options: ClientOptions) -> Any:
    """Return this process's client for `options`; the first call builds it.

    Credentials come from boto3's own chain. Those of roles and web identities refresh themselves; a process that uses
    static keys must be restarted when they change.

    Raises:
        ValueError: the endpoint's URL is not one.
        botocore.exceptions.BotoCoreError: no client can be built, for example because the profile does not exist.
    """
    client = _clients.get(options)
    if client is None:
        with _lock:
            client = _clients.get(options)
            if client is None:
                client = _clients[options] = _build(options)
    return client


def _build(options: ClientOptions) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=options.endpoint_url,
        region_name=options.region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": options.addressing_style},  # type: ignore[arg-type]
            connect_timeout=options.connect_timeout_s,
            read_timeout=options.read_timeout_s,
            max_pool_connections=MAX_CONNECTIONS,
            retries={"mode": options.retry_mode, "total_max_attempts": options.max_attempts},
            # botocore's newer default checksums break older S3-compatible servers. Uploads carry Content-MD5, which all
            # of them know; downloads are compared with the SHA-256 in the object's metadata.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _after_fork() -> None:
    """Start empty in a forked child: the parent's connections are not its own, and the lock may be held."""
    global _lock
    _clients.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
