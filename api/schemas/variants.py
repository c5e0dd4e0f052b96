"""Model variants and the server's limits."""

from __future__ import annotations

from pydantic import Field

from api.schemas.view import View
from jobs.request import MAX_NUM_SAMPLES, MAX_NUM_STEPS
from jobs.settings import Settings
from jobs.variants import VariantFacts


class VariantView(View):
    name: str
    installed: bool = Field(description="Whether a live worker runs it.")
    default: bool = Field(description="Whether requests without `variant` use it.")
    sample_rate_hz: int
    min_duration_s: float
    max_duration_s: float
    default_duration_s: float = Field(description="Duration of the audio when the request has none and no video.")
    licence: str = Field(description="Licence of the weights.")
    note: str | None

    @classmethod
    def from_facts(cls, facts: VariantFacts, *, installed: bool, default: bool) -> VariantView:
        """Return the document of a variant."""
        return cls(
            name=facts.name,
            installed=installed,
            default=default,
            sample_rate_hz=facts.sample_rate_hz,
            min_duration_s=facts.min_duration_s,
            max_duration_s=facts.max_duration_s,
            default_duration_s=facts.default_duration_s,
            licence=facts.licence,
            note=facts.note,
        )


class LimitsView(View):
    """Limits of all variants. A request beyond them is refused, at the latest when its file has been read."""

    max_upload_bytes: int
    max_pixels: int = Field(description="Pixels per frame of a video.")
    max_image_pixels: int = Field(description="Pixels of a still picture.")
    max_source_duration_s: float = Field(
        description="Seconds of a video that may be decoded for one job; it may be longer."
    )
    max_num_steps: int
    max_num_samples: int

    @classmethod
    def from_settings(cls, settings: Settings) -> LimitsView:
        """Return the server's limits."""
        return cls(
            max_upload_bytes=settings.max_upload_bytes,
            max_pixels=settings.max_pixels,
            max_image_pixels=settings.max_image_pixels,
            max_source_duration_s=settings.max_source_duration_s,
            max_num_steps=MAX_NUM_STEPS,
            max_num_samples=MAX_NUM_SAMPLES,
        )


class VariantList(View):
    data: list[VariantView]
    limits: LimitsView
