"""`mmaudio doctor --cors`: prints the CORS rules that the bucket needs, and what it lacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import urlsplit

import click

from jobs.doctor.cors import (
    CorsReport,
    PreflightFailedError,
    missing_in_preflights,
    missing_in_rules,
    origins_of,
    parse_origin,
    required_rules,
)
from jobs.settings import Settings
from jobs.storage.errors import StorageError

EXIT_MISSING, EXIT_NOT_CHECKED = 1, 2


def run_cors_check(settings: Settings, origins: Sequence[str], *, as_json: bool) -> NoReturn:
    """Print the rules on standard output and what is missing on standard error, and end the command.

    Exit status 0: browsers are allowed what they need. 1: something is missing. 2: nothing could be looked at.
    """
    bucket = urlsplit(settings.storage_url)
    if bucket.scheme != "s3":
        raise click.ClickException(
            f"The storage is a folder ({settings.storage_url}); browsers send and fetch files through the API, which "
            "needs no CORS rules."
        )
    try:
        wanted = [parse_origin(origin) for origin in origins] or origins_of(settings)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--origin") from exc
    if not wanted:
        raise click.UsageError(
            "The settings do not say where the dashboard is opened from; give --origin https://sounds.example.com, or "
            "set MMAUDIO_PUBLIC_URL or MMAUDIO_ALLOWED_HOSTS."
        )
    rules = required_rules(wanted)
    report = _look(settings, bucket.netloc, wanted)
    if as_json:
        click.echo(json.dumps({"rules": rules, **vars(report)}))
    else:
        click.echo(json.dumps(rules, indent=2))
        _show(report, bucket.netloc)
    raise SystemExit(EXIT_MISSING if report.missing else 0 if report.looked else EXIT_NOT_CHECKED)


def _look(settings: Settings, bucket: str, origins: Sequence[str]) -> CorsReport:
    """Ask for a preflight, which decides, and read the bucket's rules, which decide where no preflight is possible."""
    # Imported only here: they import boto3, which is slow.
    from botocore.exceptions import BotoCoreError

    from jobs.storage.s3.client import ClientOptions
    from jobs.storage.s3.cors import RulesUnreadableError, bucket_rules

    report = CorsReport()
    asked = False
    try:
        report.missing += missing_in_preflights(_addresses(settings), origins)
        report.looked = asked = True
    except (PreflightFailedError, StorageError, BotoCoreError, ValueError) as exc:
        report.not_checked.append(f"could not ask as a browser does: {exc}")
    try:
        in_rules = missing_in_rules(bucket_rules(bucket, ClientOptions.from_settings(settings)), origins)
    except RulesUnreadableError as exc:
        report.not_checked.append(f"could not look at the rules of the bucket {bucket}: {exc}")
        return report
    report.looked = True
    if asked and not report.missing:
        report.notes += [f"by the bucket's own rules {text}; the server allows it all the same" for text in in_rules]
    else:
        report.missing += [f"by the bucket's rules {text}" for text in in_rules]
    return report


def _addresses(settings: Settings) -> dict[str, str]:
    """Return the addresses that the dashboard's browser uses, by method."""
    from jobs.storage.s3.store import S3Store

    store, key = S3Store.from_settings(settings.storage_url, settings), "uploads/cors-check/content"
    get = store.presigned_get(key, expires_s=60, filename="check", content_type="audio/flac")
    upload = store.upload_target(
        key, size_bytes=1, content_type="video/mp4", sha256=None, expires_s=60, now=datetime.now(UTC)
    )
    return {**({"GET": get} if get else {}), **({upload.method: upload.url} if upload is not None else {})}


def _show(report: CorsReport, bucket: str) -> None:
    for text in report.missing:
        click.echo(f"missing: {text}", err=True)
    for text in report.notes:
        click.echo(f"note: {text}", err=True)
    for text in report.not_checked:
        click.echo(f"not checked: {text}", err=True)
    if report.missing:
        click.echo(
            "To allow it, save the JSON above as cors.json and run\n"
            f"  aws s3api put-bucket-cors --bucket {bucket} --cors-configuration file://cors.json\n"
            "with --endpoint-url for a server other than AWS; MinIO has one for all: MINIO_API_CORS_ALLOW_ORIGIN.",
            err=True,
        )
    elif report.looked:
        click.echo("Browsers are allowed what they need.", err=True)
    else:
        click.echo("Nothing could be looked at.", err=True)
