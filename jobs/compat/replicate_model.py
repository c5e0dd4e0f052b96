"""Model variants as models and versions of Replicate's HTTP API."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jobs.compat.replicate_prediction import OWNER
from jobs.variants import VARIANTS

ALIASES = ("mmaudio", "mmaudio-v2")
"""Names under which hosted services offer the model; they stand for the default variant."""
HOSTED_VERSION = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
COG_VERSION = "0.16.0"
"""Clients compare it with versions before 0.3.9, whose schemas were another."""
RELEASED_AT = "2026-01-01T00:00:00.000000Z"


def variant_of_model(name: str, offered: Sequence[str]) -> str | None:
    """Return the variant that a model's name stands for; None: this server has no such model.

    Args:
        offered: variants that requests may name, the default first.
    """
    if name in offered:
        return name
    return offered[0] if name in ALIASES and offered else None


def variant_of_version(version: str, offered: Sequence[str]) -> str | None:
    """Return the variant that a version stands for; None: this server has no such version.

    The id of a version at the hosted service, which callers have in their code, stands for the default variant.
    """
    reference = version.rpartition(":")[2]  # `owner/name:version` is allowed as well
    if reference in offered:
        return reference
    if HOSTED_VERSION.fullmatch(reference):
        return offered[0] if offered else None
    owner, slash, name = reference.partition("/")
    return variant_of_model(name, offered) if slash and owner else None


def version_document(variant: str, input_schema: dict[str, Any]) -> dict[str, Any]:
    """Return a variant as a version."""
    return {
        "id": variant,
        "created_at": RELEASED_AT,
        "cog_version": COG_VERSION,
        "openapi_schema": {
            "openapi": "3.1.0",
            "info": {"title": "MMAudio", "version": variant},
            "paths": {},
            "components": {
                "schemas": {
                    "Input": input_schema,
                    "Output": {"type": "string", "title": "Output", "format": "uri"},
                }
            },
        },
    }


def model_document(
    owner: str, name: str, variant: str, *, base: str, input_schema: dict[str, Any], run_count: int = 0
) -> dict[str, Any]:
    """Return a model, under the name that the caller used for it."""
    facts = VARIANTS.get(variant)
    described = f" The variant {variant}: {facts.note}." if facts is not None and facts.note else f" Variant {variant}."
    return {
        "url": f"{base}/v1/models/{owner}/{name}",
        "owner": owner,
        "name": name,
        "description": f"Generates audio for videos, images and text.{described}",
        "visibility": "private",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": run_count,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": version_document(variant, input_schema),
    }


def models_documents(offered: Sequence[str], *, base: str, input_schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the offered variants as models."""
    return [model_document(OWNER, variant, variant, base=base, input_schema=input_schema) for variant in offered]
