"""What operators set for tenants."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.parameters import page_cursor
from api.schemas.view import View
from jobs.request import Text
from jobs.tenants.service import MAX_ENTRIES, MAX_PAGE, TENANT_PLACE
from jobs.whole_numbers import Whole

Entries = Annotated[list[Annotated[Text, Field(max_length=800)]], Field(max_length=MAX_ENTRIES)]
Count = Annotated[Whole, Field(ge=0, le=10**9, strict=True)]
Bytes = Annotated[Whole, Field(ge=0, le=2**60, strict=True)]


class TenantPath(BaseModel):
    tenant: str = Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Name of the tenant.")


class ListTenantsQuery(BaseModel):
    cursor: str | None = page_cursor(TENANT_PLACE)
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Tenants per page.")


class TenantChange(BaseModel):
    """The fields to change; null restores a default. A limit of 0 means none, but for `max_running`: none may run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"input_buckets": ["videos/studio"], "requests_per_minute": 600}},
    )

    input_buckets: Entries | None = Field(
        None, description="`bucket` or `bucket/folder`: where its requests and triggers may read from."
    )
    output_buckets: Entries | None = Field(
        None, description="`bucket` or `bucket/folder`: where its results may be delivered to."
    )
    input_hosts: Entries | None = Field(None, description="Hosts that its inputs may be fetched from by https.")
    requests_per_minute: Count | None = Field(None, description="Requests a minute of all its keys together.")
    key_requests_per_minute: Count | None = Field(None, description="Requests a minute of each of its keys.")
    max_queued: Count | None = Field(None, description="Jobs that it may have queued.")
    max_stored_upload_bytes: Bytes | None = Field(None, description="Bytes of all its uploads.")
    max_stored_result_bytes: Bytes | None = Field(
        None, description="Bytes of stored results at which its requests are refused."
    )
    max_triggers: Count | None = Field(None, description="Triggers that it may have.")
    max_waiting: Count | None = Field(None, description="Requests that may wait or stream at once in each API process.")
    weight: Annotated[float, Field(ge=0.001, le=1000)] | None = Field(
        None, description="Weight of its share of the slots; the default is 1."
    )
    max_running: Count | None = Field(None, description="Jobs that may run at once.")


class TenantView(View):
    """What is set for a tenant; null: as in the settings."""

    tenant: str
    input_buckets: list[str] | None
    output_buckets: list[str] | None
    input_hosts: list[str] | None
    requests_per_minute: int | None
    key_requests_per_minute: int | None
    max_queued: int | None
    max_stored_upload_bytes: int | None
    max_stored_result_bytes: int | None
    max_triggers: int | None
    max_waiting: int | None
    weight: float | None
    max_running: int | None


class TenantUsage(View):
    """What a tenant has now."""

    queued: int
    upload_bytes: int
    result_bytes: int
    triggers: int


class OneTenantView(TenantView):
    usage: TenantUsage


class TenantList(View):
    data: list[TenantView]
    next_cursor: str | None
