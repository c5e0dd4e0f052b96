"""Presets: the body, the answers, the parameters of the calls."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.links import LinkBuilder
from api.schemas.parameters import page_cursor
from api.schemas.view import Timestamp, View
from jobs.db.batch_tables import Preset
from jobs.request import Text
from jobs.service.presets import MAX_PAGE, MAX_VERSIONS, PRESET_NAME


class PresetPath(BaseModel):
    name: str = Field(pattern=f"^{PRESET_NAME.pattern}$", description="Name of the preset.")


class PresetQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(None, ge=1, le=999_999_999, description="Number of a version. Default: the newest.")


class ListPresetsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: str | None = page_cursor(PRESET_NAME)
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Maximum number of presets on the page.")


class PresetBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"description": "Loud and short", "request": {"loudness_lufs": -16, "negative_prompt": "music"}}
        },
    )

    request: dict[str, Any] = Field(description="Fields of requests, as in `POST /v1/jobs`.")
    description: Text | None = Field(None, max_length=1000, description="What the preset is for.")


class PresetLinks(View):
    self_: str = Field(alias="self", description="The newest version.")
    version: str = Field(description="This version.")


class PresetView(View):
    name: str = Field(description="A job's `preset` may be this name.")
    version: int = Field(description="A job's `preset` may be `name@version`.")
    description: str | None
    request: dict[str, Any] = Field(description="The fields that requests get from it.")
    created_at: Timestamp = Field(description="When this version was made.")
    links: PresetLinks

    @classmethod
    def from_row(cls, row: Preset, links: LinkBuilder) -> PresetView:
        """Return the document of a version."""
        url = links.preset(row.name)
        return cls(
            name=row.name,
            version=row.version,
            description=row.description,
            request=row.request,
            created_at=row.created_at,
            links=PresetLinks(self_=url, version=f"{url}?version={row.version}"),
        )


class PresetVersions(View):
    data: list[PresetView] = Field(description=f"All versions, newest first; at most {MAX_VERSIONS}.")


class PresetPageLinks(View):
    next: str | None = Field(description="URL of the next page; null on the last one.")


class PresetPage(View):
    data: list[PresetView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")
    links: PresetPageLinks
