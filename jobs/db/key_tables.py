"""The tables of API keys and of what an operator has set for a tenant.

A key names a tenant without being owned by it: it is looked up before the tenant is known.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from jobs.db.base import Base, TenantOwned
from jobs.db.types import JsonDocument


class ApiKey(Base):
    """An API key: what it allows, and the SHA-256 of its text, which is not stored."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index("uq_api_keys_sha256", "sha256", unique=True),
        Index("ix_api_keys_tenant_page", "tenant", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(120))
    prefix: Mapped[str] = mapped_column(String(16))
    """First characters of its text, by which people recognise it."""
    sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To the minute."""
    revoked_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None] = mapped_column(String(40))
    """Id of the key that a rotation made instead."""


TENANT_LIMITS = (
    "requests_per_minute",
    "key_requests_per_minute",
    "max_queued",
    "max_stored_upload_bytes",
    "max_stored_result_bytes",
    "max_triggers",
    "max_waiting",
)


class TenantSettings(TenantOwned, Base):
    """What an operator has set for a tenant. No row, or NULL: as in the settings. A limit of 0: none."""

    __tablename__ = "tenant_settings"
    __table_args__ = tuple(
        CheckConstraint(f"{name} IS NULL OR {name} >= 0", name=f"{name}_in_range") for name in TENANT_LIMITS
    )

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    input_buckets: Mapped[list[Any] | None] = mapped_column(JsonDocument)
    """`bucket` or `bucket/prefix`: where its requests and triggers may read from."""
    output_buckets: Mapped[list[Any] | None] = mapped_column(JsonDocument)
    """`bucket` or `bucket/prefix`: where its results may be delivered to."""
    input_hosts: Mapped[list[Any] | None] = mapped_column(JsonDocument)
    """Hosts that its inputs may be fetched from by https."""
    requests_per_minute: Mapped[int | None]
    """Of all its keys together."""
    key_requests_per_minute: Mapped[int | None]
    """Of each of its keys."""
    max_queued: Mapped[int | None]
    max_stored_upload_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_stored_result_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_triggers: Mapped[int | None]
    max_waiting: Mapped[int | None]
    """Requests of it that may wait or stream at once, in each API process."""
    updated_at: Mapped[datetime]
