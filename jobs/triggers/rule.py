"""What a trigger is, before and after it is a row: fields checked, loops refused, keys matched."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from jobs.db.tables import Trigger
from jobs.errors import FieldProblem, RequestInvalidError
from jobs.request import JobRequest, Text

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
OUTPUT = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<prefix>(?:.*/)?)", re.DOTALL)
# Where this server itself writes, below its storage prefix.
OWN_FOLDERS = ("jobs/", "features/")

Suffix = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class NewTrigger(BaseModel):
    """A rule as a caller gives it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text | None = Field(None, max_length=120, description="For people; need not be unique.")
    bucket: str = Field(
        description="The bucket whose events count; one of MMAUDIO_INPUT_BUCKETS.", pattern=f"^{BUCKET.pattern}$"
    )
    prefix: Text = Field("", max_length=1024, description="Only keys that begin so.")
    suffixes: list[Suffix] = Field(
        default_factory=list,
        max_length=32,
        description="Only keys that end in one of these, upper case or lower; empty: all.",
    )
    source_field: Literal["video", "image"] = Field("video", description="What the object is in the request.")
    request: dict[str, Any] = Field(
        default_factory=dict, description="The other fields of the jobs, as `POST /v1/jobs` takes them."
    )
    deliver_to: Text | None = Field(
        None,
        max_length=1024,
        description="`s3://bucket/prefix/`: also deliver the files there; one of MMAUDIO_OUTPUT_BUCKETS.",
    )
    enabled: bool = Field(True, strict=True)

    @field_validator("deliver_to")
    @classmethod
    def _is_a_prefix(cls, value: str | None) -> str | None:
        if value is not None and not OUTPUT.fullmatch(value):
            raise ValueError("give s3://bucket/ or s3://bucket/prefix/, with the slash at the end")
        return value


def check_rule(
    rule: NewTrigger, *, input_buckets: frozenset[str], output_buckets: frozenset[str], storage_url: str
) -> None:
    """Refuse a rule whose jobs could not be made, or whose outputs would make jobs again.

    Raises:
        RequestInvalidError: names each field at fault.
    """
    problems: list[FieldProblem] = []
    if rule.bucket not in input_buckets:
        problems.append(
            FieldProblem("bucket", f"bucket {rule.bucket!r} is not one that this server reads from (input_buckets)")
        )
    if rule.deliver_to is not None and (bucket := urlsplit(rule.deliver_to).netloc) not in output_buckets:
        problems.append(
            FieldProblem("deliver_to", f"bucket {bucket!r} is not one that this server delivers to (output_buckets)")
        )
    problems += _loops(rule, storage_url)
    for reserved in ("video", "image", "deliver_to"):
        if reserved in rule.request:
            hint = (
                "give it beside `request`" if reserved == "deliver_to" else "the object of the event takes this place"
            )
            problems.append(FieldProblem(f"request.{reserved}", hint))
    if not problems:
        problems += _template_problems(rule)
    if problems:
        raise RequestInvalidError(problems)


def request_for(
    template: dict[str, Any], source_field: str, deliver_to: str | None, *, bucket: str, key: str
) -> JobRequest:
    """Return the request that a trigger makes of an object.

    Raises:
        pydantic.ValidationError: the template (or the key) does not make a request.
    """
    fields = {**template, source_field: f"s3://{bucket}/{key}"}
    if deliver_to is not None:
        fields["deliver_to"] = deliver_to
    return JobRequest.model_validate(fields)


def matches(trigger: Trigger, key: str) -> bool:
    """Say whether a key is one of the trigger's. A key that ends in a slash is a folder's mark, not a file."""
    if key.endswith("/") or not key.startswith(trigger.prefix):
        return False
    lowered = key.lower()
    return not trigger.suffixes or any(lowered.endswith(str(suffix).lower()) for suffix in trigger.suffixes)


def _loops(rule: NewTrigger, storage_url: str) -> list[FieldProblem]:
    problems = []
    if rule.deliver_to is not None:
        match = OUTPUT.fullmatch(rule.deliver_to)
        assert match is not None, rule.deliver_to
        if match["bucket"] == rule.bucket and match["prefix"].startswith(rule.prefix):
            problems.append(
                FieldProblem(
                    "deliver_to",
                    f"outputs under {rule.deliver_to} would fall under the input s3://{rule.bucket}/{rule.prefix} "
                    "and start jobs again; choose another bucket or prefix",
                )
            )
    own = urlsplit(storage_url)
    if own.scheme != "s3" or own.netloc != rule.bucket:
        return problems
    for folder in OWN_FOLDERS:
        own_prefix = "/".join(part for part in (own.path.strip("/"), folder) if part)
        if own_prefix.startswith(rule.prefix) or rule.prefix.startswith(own_prefix):
            problems.append(
                FieldProblem(
                    "prefix",
                    f"this server keeps its results under s3://{rule.bucket}/{own_prefix}, which lies in "
                    f"s3://{rule.bucket}/{rule.prefix} or around it: they would start jobs again",
                )
            )
            break
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
