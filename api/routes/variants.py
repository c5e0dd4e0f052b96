"""`/v1/variants`: the models that requests may name, and the limits of this server."""

from __future__ import annotations

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag

from api.context import current_context
from api.schemas.responses import problems
from api.schemas.variants import VariantList
from jobs.request import MAX_NUM_SAMPLES, MAX_NUM_STEPS
from jobs.variants import VARIANTS

variants_api = APIBlueprint("variants", __name__, abp_tags=[Tag(name="variants")])


@variants_api.get("/v1/variants", summary="List variants", responses={"200": VariantList, **problems(422, 503)})
def list_variants() -> Response:
    """The variants that may be asked for, the default first, with limits and licence."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        offered, served = ctx.offered_variants(tx), set(ctx.served_variants(tx))
    known = [VARIANTS[name] for name in offered if name in VARIANTS]
    data = [
        {
            "name": facts.name,
            "installed": facts.name in served,
            "default": place == 0,
            "sample_rate_hz": facts.sample_rate_hz,
            "min_duration_s": facts.min_duration_s,
            "max_duration_s": facts.max_duration_s,
            "default_duration_s": facts.default_duration_s,
            "licence": facts.licence,
            "note": facts.note,
        }
        for place, facts in enumerate(known)
    ]
    limits = {
        "max_upload_bytes": ctx.settings.max_upload_bytes,
        "max_pixels": ctx.settings.max_pixels,
        "max_source_duration_s": ctx.settings.max_source_duration_s,
        "max_num_steps": MAX_NUM_STEPS,
        "max_num_samples": MAX_NUM_SAMPLES,
    }
    return jsonify({"data": data, "limits": limits})
