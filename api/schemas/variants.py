"""Variants and the limits that hold for all of them."""

from __future__ import annotations

from pydantic import BaseModel, Field


class VariantView(BaseModel):
    name: str
    installed: bool = Field(description="A living worker takes jobs for it.")
    default: bool
    sample_rate_hz: int
    min_duration_s: float
    max_duration_s: float
    default_duration_s: float
    licence: str
    note: str | None


class LimitsView(BaseModel):
    """What holds for every variant. A request beyond is refused, at the latest when its file is read."""

    max_upload_bytes: int
    max_pixels: int
    max_source_duration_s: float
    max_num_steps: int
    max_num_samples: int


class VariantList(BaseModel):
    data: list[VariantView]
    limits: LimitsView
