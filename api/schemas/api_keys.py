"""API keys and the audit of what operators did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.schemas.parameters import page_cursor
from api.schemas.view import Timestamp, View
from jobs.api_keys.scope import KeyScope
from jobs.api_keys.service import KEY_ID, MAX_GRACE_S, MAX_PAGE, KeyState, NewKey, key_state
from jobs.db.key_tables import ApiKey
from jobs.db.tables import AuditEvent
from jobs.request import Text
from jobs.service.audit import AUDIT_PLACE
from jobs.whole_numbers import Whole


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("give the time with its zone, such as 2026-12-31T00:00:00Z")
    return value.astimezone(UTC)


TENANT = Field(
    default=None,
    max_length=64,
    pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    description="The tenant; default: that of the key that calls.",
)


class ApiKeyPath(BaseModel):
    key_id: str = Field(max_length=64, description="Id of the API key.")


class TenantQuery(BaseModel):
    tenant: str | None = TENANT


class ListApiKeysQuery(BaseModel):
    tenant: str | None = TENANT
    active: bool = Field(False, description="Only keys that are valid now.")
    cursor: str | None = page_cursor(KEY_ID)
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Keys per page.")


class NewApiKey(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "studio", "scopes": ["jobs:read", "jobs:write"]}},
    )

    name: Text = Field("", max_length=120, description="Display name.")
    tenant: str | None = TENANT
    scopes: list[KeyScope] = Field(
        min_length=1, max_length=len(KeyScope), description="What it allows; `admin` implies the others."
    )
    expires_at: Annotated[datetime, AfterValidator(_aware)] | None = Field(
        None, description="When it stops being valid; default: never."
    )


class RotateApiKey(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"grace_s": 3600}})

    grace_s: Whole = Field(
        0, ge=0, le=MAX_GRACE_S, strict=True, description="Seconds that the old key stays valid; 0: none."
    )


class ApiKeyView(View):
    id: str
    tenant: str
    name: str
    prefix: str = Field(description="First characters of the key, to recognise it by.")
    scopes: list[str]
    state: KeyState
    created_at: Timestamp
    expires_at: Timestamp | None = Field(description="null: never.")
    last_used_at: Timestamp | None = Field(description="To the minute; null: never used.")
    revoked_at: Timestamp | None
    replaced_by: str | None = Field(description="Id of the key that a rotation made instead.")

    @classmethod
    def from_row(cls, row: ApiKey, now: datetime) -> ApiKeyView:
        """Return the document of a key, without its text, which is not stored."""
        return cls(**_fields(row, now))


class NewApiKeyView(ApiKeyView):
    key: str = Field(description="The key itself. It is shown only now.")

    @classmethod
    def from_new(cls, new: NewKey, now: datetime) -> NewApiKeyView:
        """Return the document of a key that was just made."""
        return cls(**_fields(new.row, now), key=new.text)


def _fields(row: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": list(row.scopes),
        "state": key_state(row, now),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
        "revoked_at": row.revoked_at,
        "replaced_by": row.replaced_by,
    }


class ApiKeyList(View):
    data: list[ApiKeyView]
    next_cursor: str | None


class ListAuditQuery(BaseModel):
    action: str | None = Field(None, max_length=32, description="Only this action, such as `key.revoke`.")
    cursor: str | None = page_cursor(AUDIT_PLACE)
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Entries per page.")


class AuditEventView(View):
    id: int
    at: Timestamp
    actor: str = Field(description="`key:ID`, `cli:USER`, `local` (no key), or the name of a program.")
    action: str
    subject: str = Field(description="Id or name of what was changed.")
    detail: dict[str, Any]

    @classmethod
    def from_row(cls, row: AuditEvent) -> AuditEventView:
        """Return the document of an entry."""
        return cls(
            id=row.id, at=row.at, actor=row.actor, action=row.action, subject=row.subject, detail=dict(row.detail)
        )


class AuditList(View):
    data: list[AuditEventView]
    next_cursor: str | None
