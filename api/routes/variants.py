"""`/v1/variants`: the model variants that requests may name, and the server's limits."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.context import current_context
from api.presentation import answer
from api.schemas.responses import problems
from api.schemas.variants import LimitsView, VariantList, VariantView
from jobs.variants import VARIANTS

variants_api = APIBlueprint("variants", __name__, abp_tags=[Tag(name="variants")])


@variants_api.get("/v1/variants", summary="List variants", responses={"200": VariantList, **problems(422, 503)})
def list_variants() -> Response:
    """Returns the variants that requests may name, the default first, and the limits of all requests."""
    ctx = current_context()
    with ctx.platform_db.reading() as tx:
        offered, served = ctx.offered_variants(tx), set(ctx.served_variants(tx))
    known = [VARIANTS[name] for name in offered if name in VARIANTS]
    data = [
        VariantView.from_facts(facts, installed=facts.name in served, default=place == 0)
        for place, facts in enumerate(known)
    ]
    return answer(VariantList(data=data, limits=LimitsView.from_settings(ctx.settings)))
