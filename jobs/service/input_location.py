"""Where the input of a request is and where its results go, and whether its tenant may use these places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.data_uris import is_data_uri
from jobs.db.database import Transaction
from jobs.db.tables import Upload
from jobs.errors import FieldProblem
from jobs.outbound.errors import OutboundRefusedError
from jobs.outbound.policy import OutboundPolicy, check_url
from jobs.request import JobRequest, is_web_url
from jobs.s3_urls import DELIVERY_URL, OBJECT_URL
from jobs.service.expiry import gone_since
from jobs.tenants.locations import allows_folder, allows_object, not_allowed_input, not_allowed_output
from jobs.tenants.own_storage import kept_for_the_platform

if TYPE_CHECKING:
    from jobs.service.submission import SubmitPolicy


def input_key_of(
    tx: Transaction,
    request: JobRequest,
    policy: SubmitPolicy,
    problems: list[FieldProblem],
    uploads: Mapping[str, Upload] | None,
) -> str | None:
    """Return the location of a request's input, and note what is wrong with it.

    Args:
        uploads: those that may be the input, already read and locked; None: not read yet.
    """
    tx.require_own(tx.tenant)
    source = request.source
    if source is None:
        return None
    field_name = request.source_field
    if is_data_uri(source):
        problems.append(FieldProblem(field_name, "a data: URI is not allowed in this place; upload the file"))
        return None
    if is_web_url(source):
        return _url_key(source, field_name, policy, problems)
    if match := OBJECT_URL.fullmatch(source):
        if not allows_object(policy.input_buckets, match["bucket"], match["key"]):
            problems.append(FieldProblem(field_name, not_allowed_input(policy.input_buckets, match["bucket"])))
        elif policy.own_storage.has(match["bucket"], match["key"]):
            problems.append(FieldProblem(field_name, kept_for_the_platform(match["bucket"])))
        return source
    # Locked: who deletes it waits until this job can be seen, or this waits and then sees that it was deleted.
    if uploads is not None:
        upload = uploads.get(source)
    else:
        upload = tx.session.get(Upload, source, populate_existing=True, with_for_update={"read": True})
    if upload is None:
        problems.append(FieldProblem(field_name, f"there is no upload {source}"))
        return None
    if upload.delete_requested_at is not None:
        problems.append(FieldProblem(field_name, f"upload {source} was deleted; upload the file again"))
        return None
    gone = gone_since(expires_at=upload.expires_at, deleted_at=upload.deleted_at, now=tx.now)
    if gone is not None:
        problems.append(
            FieldProblem(field_name, f"upload {source} has expired: it {gone.clause}; upload the file again")
        )
    elif upload.checked_at is None:
        problems.append(FieldProblem(field_name, f"upload {source} has no content yet; send the file first"))
    return upload.storage_key


def _url_key(url: str, field_name: str, policy: SubmitPolicy, problems: list[FieldProblem]) -> str | None:
    """Return the whole URL of an input; only its form without the query stands in the request that is shown."""
    allowed = OutboundPolicy(hosts=policy.input_hosts, allowed_networks=policy.allowed_networks)
    try:
        parsed = check_url(url, allowed)
    except OutboundRefusedError as exc:
        problems.append(FieldProblem(field_name, exc.message))
        return None
    if parsed.hides_query:
        problems.append(
            FieldProblem(field_name, "the query of this URL was left out where it was shown; give the whole URL")
        )
    return parsed.full


def check_delivery(request: JobRequest, policy: SubmitPolicy, problems: list[FieldProblem]) -> None:
    """Note it when a request wants its results where the tenant may not deliver to."""
    if request.deliver_to is None:
        return
    match = DELIVERY_URL.fullmatch(request.deliver_to)
    assert match is not None, request.deliver_to
    if not allows_folder(policy.output_buckets, match["bucket"], match["prefix"]):
        problems.append(FieldProblem("deliver_to", not_allowed_output(policy.output_buckets, match["bucket"])))
    elif policy.own_storage.has(match["bucket"], match["prefix"]):
        problems.append(FieldProblem("deliver_to", kept_for_the_platform(match["bucket"])))
