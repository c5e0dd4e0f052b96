"""Tables of what a tenant names itself: batches of jobs and presets of requests."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobs.db.base import Base, TenantOwned, partial_index


class Batch(TenantOwned, Base):
    """Jobs that were created by one call. Their states are counted from the jobs; see `jobs.service.batches`."""

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint("job_count > 0", name="not_empty"),
        Index("ix_batches_tenant_page", "tenant", "id"),
        partial_index("ix_batches_unfinished", "id", where="finished_at IS NULL"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(120))
    labels: Mapped[dict[str, Any]]
    """The caller's `metadata`."""
    webhook_url: Mapped[str | None] = mapped_column(Text)
    job_count: Mapped[int]
    created_at: Mapped[datetime]
    cancel_requested_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    """When its last job ended; set by maintenance, in the transaction that records the event `batch_finished`."""
    final_counts: Mapped[dict[str, Any] | None]
    """Its jobs by state when it was finished."""


class Preset(TenantOwned, Base):
    """One version of a named template of requests. Versions never change; a new one is added instead."""

    __tablename__ = "presets"
    __table_args__ = (CheckConstraint("version > 0", name="version_positive"),)

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    description: Mapped[str | None] = mapped_column(Text)
    request: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    """When it was deleted, and its content with it; the row stays, so that no number is given twice."""
