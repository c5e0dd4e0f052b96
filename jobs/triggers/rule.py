"""The rule of a trigger: its fields, checks (against loops, too), and which keys it matches."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from jobs.db.tables import Trigger
from jobs.errors import FieldProblem, RequestInvalidError
from jobs.outbound.policy import OutboundPolicy
from jobs.request import JobRequest, Text
from jobs.s3_urls import BUCKET_NAME, DELIVERY_URL
from jobs.tenants.locations import allows_folder, not_allowed_input, not_allowed_output
from jobs.tenants.own_storage import OwnStorage, kept_for_the_platform
from jobs.webhooks.job_url import url_problem

Suffix = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class NewTrigger(BaseModel):
    """The rule of a new trigger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text | None = Field(None, max_length=120, description="Display name; need not be unique.")
    bucket: str = Field(
        description="Bucket whose new objects make jobs; one that the tenant may read from.",
        pattern=f"^{BUCKET_NAME.pattern}$",
    )
    prefix: Text = Field("", max_length=1024, description="Key prefix to match.")
    suffixes: list[Suffix] = Field(
        default_factory=list,
        max_length=32,
        description="Key suffixes to match, ignoring case. Default: every key.",
    )
    source_field: Literal["video", "image"] = Field("video", description="Field of the request that the object is for.")
    request: dict[str, Any] = Field(
        default_factory=dict, description="Other fields of the jobs' requests, as in `POST /v1/jobs`."
    )
    deliver_to: Text | None = Field(
        None,
        max_length=1024,
        description="`s3://bucket/prefix/`: also deliver the files there. The bucket must be one of "
        "MMAUDIO_OUTPUT_BUCKETS.",
    )
    enabled: bool = Field(True, strict=True, description="Whether new objects make jobs.")

    @field_validator("deliver_to")
    @classmethod
    def _is_a_prefix(cls, value: str | None) -> str | None:
        if value is not None and not DELIVERY_URL.fullmatch(value):
            raise ValueError("give s3://bucket/ or s3://bucket/prefix/, with the slash at the end")
        return value


def check_rule(
    rule: NewTrigger,
    *,
    input_buckets: Collection[str],
    output_buckets: Collection[str],
    storage_url: str,
    webhooks: OutboundPolicy | None = None,
) -> None:
    """Check that a rule's jobs can be submitted and that their outputs do not match the rule again.

    Args:
        webhooks: which URLs may be called; None: any.

    Raises:
        RequestInvalidError: names each field that is not valid.
    """
    problems: list[FieldProblem] = []
    if not allows_folder(input_buckets, rule.bucket, rule.prefix):
        where = "prefix" if any(one.startswith(f"{rule.bucket}/") for one in input_buckets) else "bucket"
        problems.append(FieldProblem(where, not_allowed_input(input_buckets, rule.bucket)))
    if rule.deliver_to is not None:
        match = DELIVERY_URL.fullmatch(rule.deliver_to)
        assert match is not None, rule.deliver_to
        if not allows_folder(output_buckets, match["bucket"], match["prefix"]):
            problems.append(FieldProblem("deliver_to", not_allowed_output(output_buckets, match["bucket"])))
    problems += _loops(rule, storage_url)
    for reserved in ("video", "image", "deliver_to"):
        if reserved in rule.request:
            hint = (
                "set `deliver_to` of the trigger instead"
                if reserved == "deliver_to"
                else "the object of the event is set for this field; leave it out"
            )
            problems.append(FieldProblem(f"request.{reserved}", hint))
    if not problems:
        problems += _template_problems(rule)
    if not problems and webhooks is not None:
        problem = url_problem("request.webhook_url", rule.request.get("webhook_url"), webhooks)
        problems += [problem] if problem is not None else []
    if problems:
        raise RequestInvalidError(problems)


def check_still_allowed(trigger: Trigger, input_buckets: Collection[str]) -> None:
    """Check that a trigger's tenant may still read where it matches: what may be read changes.

    Raises:
        RequestInvalidError: it may not.
    """
    if not is_still_allowed(trigger, input_buckets):
        raise RequestInvalidError.of("bucket", not_allowed_input(input_buckets, trigger.bucket))


def is_still_allowed(trigger: Trigger, input_buckets: Collection[str]) -> bool:
    """Return whether a trigger's tenant may still read where it matches."""
    return allows_folder(input_buckets, trigger.bucket, trigger.prefix)


def request_for(
    template: dict[str, Any], source_field: str, deliver_to: str | None, *, bucket: str, key: str
) -> JobRequest:
    """Return the request of a trigger's job for an object.

    Raises:
        pydantic.ValidationError: the request is not valid.
    """
    fields = {**template, source_field: f"s3://{bucket}/{key}"}
    if deliver_to is not None:
        fields["deliver_to"] = deliver_to
    return JobRequest.model_validate(fields)


def matches(trigger: Trigger, key: str) -> bool:
    """Return whether a trigger covers a key. Keys that end in a slash are folder placeholders and never match."""
    if key.endswith("/") or not key.startswith(trigger.prefix):
        return False
    lowered = key.lower()
    return not trigger.suffixes or any(lowered.endswith(str(suffix).lower()) for suffix in trigger.suffixes)


def _loops(rule: NewTrigger, storage_url: str) -> list[FieldProblem]:
    problems = []
    match = DELIVERY_URL.fullmatch(rule.deliver_to) if rule.deliver_to is not None else None
    if match is not None and match["bucket"] == rule.bucket and match["prefix"].startswith(rule.prefix):
        problems.append(
            FieldProblem(
                "deliver_to",
                f"outputs under {rule.deliver_to} match the input s3://{rule.bucket}/{rule.prefix} and would "
                "start jobs again; choose another bucket or prefix",
            )
        )
    own = OwnStorage.from_url(storage_url)
    if (place := own.overlapping(rule.bucket, rule.prefix)) is not None:
        problems.append(
            FieldProblem(
                "prefix",
                f"this server stores results and uploads under s3://{rule.bucket}/{place}, which overlaps "
                f"s3://{rule.bucket}/{rule.prefix}: they would start jobs; choose another prefix",
            )
        )
    if match is not None and own.has(match["bucket"], match["prefix"]):
        problems.append(FieldProblem("deliver_to", kept_for_the_platform(match["bucket"])))
    return problems


def _template_problems(rule: NewTrigger) -> list[FieldProblem]:
    try:
        request_for(rule.request, rule.source_field, rule.deliver_to, bucket=rule.bucket, key=f"{rule.prefix}a.mp4")
    except ValidationError as exc:
        return [
            FieldProblem(_where(error, rule), str(error["msg"]).removeprefix("Value error, ")) for error in exc.errors()
        ]
    return []


def _where(error: Any, rule: NewTrigger) -> str:
    cause = error.get("ctx", {}).get("error")
    inner = getattr(cause, "field", None) or ".".join(str(part) for part in error["loc"])
    if inner == "deliver_to":
        return "deliver_to"
    return "request" if inner in {"", rule.source_field} else f"request.{inner}"
