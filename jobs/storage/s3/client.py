"""The boto3 client of every part that talks to S3: one set of time limits, retries and checksums."""

from __future__ import annotations

from typing import Any, Literal

import boto3
from botocore.client import Config

from jobs.settings import Settings


def s3_client(
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    addressing_style: str = "auto",
    retry_mode: Literal["standard", "adaptive"] = "standard",
    max_attempts: int = 5,
) -> Any:
    """Return a client; credentials come by boto3's own chain.

    Args:
        endpoint_url: address of an S3-compatible server; None is AWS.
        retry_mode, max_attempts: botocore's retries of each call, tries in all.
    """
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing_style},  # type: ignore[arg-type]
            connect_timeout=3,
            read_timeout=30,
            retries={"mode": retry_mode, "total_max_attempts": max_attempts},
            # botocore's newer checksums by default break older S3-compatible servers. Ours are Content-MD5 on the way
            # up, which all know, and the SHA-256 in the metadata on the way down.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def client_from_settings(settings: Settings) -> Any:
    """Return the client of the endpoint that the settings name."""
    return s3_client(
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        addressing_style=settings.s3_addressing_style,
        retry_mode=settings.s3_retry_mode,
        max_attempts=settings.s3_max_attempts,
    )
