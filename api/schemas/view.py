"""Base of all responses, and the format of their times."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema


def iso_time(time: datetime) -> str:
    """Return a UTC time as documents show it."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    PlainSerializer(iso_time, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""A UTC time, such as `2026-01-31T12:00:00.000Z`."""


class View(BaseModel):
    """Base of the documents that this API answers with: their fields are declared here alone."""

    model_config = ConfigDict(populate_by_name=True)

    def document(self) -> dict[str, Any]:
        """Return the JSON document. Fields that were not set are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
