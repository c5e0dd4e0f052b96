"""The variants as models and versions, whose key it is, and the secret of its webhooks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint

from api.auth import KeyScope, current_tenant, requires
from api.compat.replicate.predictions import REPLICATE_TAG, unknown_model
from api.compat.replicate.problems import replicate_problem
from api.compat.replicate.schemas import (
    ModelPath,
    PredictionInput,
    ReplicateAccount,
    ReplicateModel,
    ReplicateModelPage,
    ReplicateVersion,
    ReplicateVersionPage,
    ReplicateWebhookSecret,
    VersionPath,
)
from api.compat.submitting import base_url
from api.context import current_context
from api.errors import problem
from api.schemas.responses import problems
from jobs.compat.replicate_model import (
    model_document,
    models_documents,
    variant_of_model,
    variant_of_version,
    version_document,
)
from jobs.webhooks.tenant_secret import tenant_secret

models_api = APIBlueprint("replicate_models", __name__, url_prefix="/v1", abp_tags=[REPLICATE_TAG])
models_api.after_request(replicate_problem)


@models_api.get("/account", summary="Get the account", responses={"200": ReplicateAccount, **problems(422)})
def get_account() -> Response:
    """Returns the tenant of the key."""
    return jsonify({"type": "organization", "username": current_tenant(), "name": current_tenant(), "github_url": None})


@models_api.get("/models", summary="List models", responses={"200": ReplicateModelPage, **problems(422, 503)})
def list_models() -> Response:
    """Returns the variants that requests may name, as models."""
    ctx = current_context()
    results = models_documents(_offered(), base=base_url(ctx), input_schema=input_schema())
    return jsonify({"previous": None, "next": None, "results": results})


@models_api.get(
    "/models/<owner>/<name>", summary="Get a model", responses={"200": ReplicateModel, **problems(404, 422, 503)}
)
def get_model(path: ModelPath) -> Response:
    """Returns a model; its latest version is the variant that its name stands for."""
    ctx = current_context()
    variant = variant_of_model(path.name, _offered())
    if variant is None:
        return unknown_model(path, ctx)
    return jsonify(model_document(path.owner, path.name, variant, base=base_url(ctx), input_schema=input_schema()))


@models_api.get(
    "/models/<owner>/<name>/versions",
    summary="List the versions of a model",
    responses={"200": ReplicateVersionPage, **problems(404, 422, 503)},
)
def list_versions(path: ModelPath) -> Response:
    """Returns the variants that requests may name, that of the model first."""
    offered = _offered()
    variant = variant_of_model(path.name, offered)
    if variant is None:
        return unknown_model(path, current_context())
    names = [variant, *(name for name in offered if name != variant)]
    results = [version_document(name, input_schema()) for name in names]
    return jsonify({"previous": None, "next": None, "results": results})


@models_api.get(
    "/models/<owner>/<name>/versions/<version_id>",
    summary="Get a version of a model",
    responses={"200": ReplicateVersion, **problems(404, 422, 503)},
)
def get_version(path: VersionPath) -> Response:
    """Returns a version; for the id of a version of the hosted model, the one that it stands for."""
    offered = _offered()
    if variant_of_model(path.name, offered) is None:
        return unknown_model(path, current_context())
    variant = variant_of_version(path.version_id, offered)
    if variant is None:
        detail = f"There is no version {path.version_id!r}; this server has: {', '.join(offered) or 'none'}."
        return problem(HTTPStatus.NOT_FOUND, "version_not_found", detail)
    return jsonify(version_document(variant, input_schema()))


@models_api.get(
    "/webhooks/default/secret",
    summary="Get the secret of predictions' webhooks",
    responses={"200": ReplicateWebhookSecret, **problems(403, 422, 503)},
)
@requires(KeyScope.JOBS_WRITE)
def get_webhook_secret() -> Response:
    """Returns the secret that verifies what a prediction's `webhook` receives. Needs a key that may write."""
    with current_context().db.transaction() as tx:
        response = jsonify({"key": tenant_secret(tx).secret})
    response.headers["Cache-Control"] = "no-store"
    return response


def input_schema() -> dict[str, Any]:
    """Return the JSON schema of a prediction's input."""
    return PredictionInput.model_json_schema() | {"title": "Input"}


def _offered() -> tuple[str, ...]:
    ctx = current_context()
    with ctx.platform_db.reading() as tx:
        return ctx.offered_variants(tx)
