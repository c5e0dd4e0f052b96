"""The application factory: settings in, a Flask app out. Importing this module does nothing."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, request
from flask_openapi3 import Info
from werkzeug.exceptions import BadRequest, NotFound, RequestEntityTooLarge

from api.access_log import register_access_log
from api.auth import open_to_all
from api.body_limits import body_limit, check_json_size, check_json_values, register_body_limits
from api.bounded_store import BoundedBucketReader, Proof, StoreGate, bounded_store
from api.bridge.waiting import answer_again, waited
from api.circuit_breaker import CircuitBreaker
from api.compat.fal.queue import fal_queue_api, fal_root_api
from api.compat.fal.run import fal_run_api
from api.compat.fal.storage import FILE_BODIES, fal_storage_api
from api.compat.replicate.files import CREATE_FILE_ENDPOINT, files_api
from api.compat.replicate.models import models_api
from api.compat.replicate.predictions import predictions_api
from api.compat.replicate.stream import prediction_stream_api
from api.context import EXTENSION, AppContext, current_context
from api.dashboard.views import dashboard
from api.errors import invalid_fields, problem, register_error_handlers
from api.events.in_thread import ThreadWaiting
from api.key_check import register_key_check
from api.limits.check import register_rate_headers
from api.openapi_document import SECURITY_SCHEMES, DocumentedApp, without_keys
from api.request_body import register_body_checks
from api.routes.api_keys import api_keys_api
from api.routes.archives import archives_api
from api.routes.artifacts import artifacts_api
from api.routes.audit import audit_api
from api.routes.batches import BATCHES_ENDPOINT, batches_api
from api.routes.bulk_retry import bulk_retry_api
from api.routes.events import events_api
from api.routes.health import health_api
from api.routes.jobs import jobs_api
from api.routes.presets import presets_api
from api.routes.queues import queues_api
from api.routes.s3_events import EVENTS_ENDPOINT, s3_events_api
from api.routes.tenants import tenants_api
from api.routes.triggers import triggers_api
from api.routes.upload_parts import upload_parts_api
from api.routes.uploads import is_upload_content, uploads_api
from api.routes.variants import variants_api
from api.routes.webhooks import webhooks_api
from api.routes.workers import workers_api
from api.schemas.responses import Problem
from api.security_headers import register_security_headers
from api.shares import Places, ThreadShares
from api.sns import SnsGate, sns_policy
from api.static_paths import register_static_paths
from jobs.db.database import Database
from jobs.db.time_limits import TimeLimits
from jobs.queue import Broker
from jobs.secret_key import load_secret_keys
from jobs.service.scheduling.dispatch import Publisher
from jobs.settings import Settings
from jobs.storage.bucket_reader import BucketReader, LazyBucketReader
from jobs.storage.factory import open_store
from jobs.storage.identity import check_identity
from jobs.storage.protocol import CallLimits, ObjectStore
from jobs.storage.signing import LinkSigner

log = logging.getLogger(__name__)

MAX_PATH_CHARS = 200
JSON_PATHS = ("/v1/", "/fal-ai/", "/fal/")
# Calls whose body is a file.
FILE_ENDPOINTS = {CREATE_FILE_ENDPOINT, *FILE_BODIES}
BODY_OPTIONAL = frozenset(
    {
        "batches.cancel",
        "fal_queue.cancel_request",
        "fal_root.cancel_request",
        "jobs.cancel_job",
        "jobs.retry_job",
        "replicate_predictions.cancel_prediction",
        "upload_parts.complete",
        "webhooks.replay_one",
        "webhooks.send_test",
        "workers.drain_worker",
    }
)
# A caller waits, and holds a thread.
QUICK = CallLimits(connect_s=1, read_s=2, tries=1)


def create_app(
    settings: Settings,
    *,
    db: Database | None = None,
    store: ObjectStore | None = None,
    broker: Broker | Publisher | None = None,
    buckets: BucketReader | None = None,
) -> Flask:
    """Return the app.

    Args:
        db, store, broker, buckets: used instead of those that the settings name.

    Raises:
        BrokerUnknownError: the settings do not name a broker, and no `mmaudio up` runs.
    """
    app = new_app(access_log=settings.access_log)
    quick, bulk = _stores(settings, store)
    # One breaker for both: inputs are in buckets of the same server as a rule.
    breaker = CircuitBreaker()
    shares = ThreadShares.of(settings.api_threads)
    database = db or _database(settings)
    proof = Proof(lambda: check_identity(database.of_platform(), quick))
    app.extensions[EXTENSION] = AppContext(
        settings=settings,
        database=database,
        store=bounded_store(quick, bulk, StoreGate(breaker, Places(shares.store), proof)),
        broker=broker or Broker(settings.resolved_broker_url(), connect_timeout_s=1, timeout_s=2),
        signer=LinkSigner(*load_secret_keys(settings)),
        buckets=BoundedBucketReader(
            buckets or LazyBucketReader(settings, QUICK), StoreGate(breaker, Places(shares.uploads))
        ),
        sns=SnsGate(policy=sns_policy(settings)),
    )
    return app


def _database(settings: Settings) -> Database:
    limits = TimeLimits(settings.api_database_timeout_s, CircuitBreaker())
    return Database(settings.database_url, pool_size=settings.api_threads // 2, limits=limits)


def _stores(settings: Settings, given: ObjectStore | None) -> tuple[ObjectStore, ObjectStore]:
    """Return the store for short calls, and the one for calls that move files."""
    if given is not None:
        return given, given
    return open_store(settings, QUICK), open_store(settings)


def new_app(*, access_log: bool) -> Flask:
    """Return an app with every route, still without the context that they need.

    Args:
        access_log: log each request.
    """
    app = DocumentedApp(
        "api",
        info=Info(
            title="mmaudio-platform",
            version="1",
            description="Generates audio for videos, images and text with MMAudio models.",
        ),
        security_schemes=SECURITY_SCHEMES,
        doc_prefix="/docs",
        validation_error_model=Problem,
        validation_error_callback=invalid_fields,
        static_folder=None,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # its redirects are HTML pages
    if access_log:
        register_access_log(app)
    register_error_handlers(app)
    app.before_request(_refuse_foreign_host)
    register_static_paths(app)
    register_key_check(app)  # before anything reads the body: who has no key must not make the server receive one
    register_body_limits(app)
    register_body_checks(app)
    app.before_request(_refuse_nul)
    app.before_request(_expect_json)
    app.before_request(answer_again)
    register_security_headers(app)
    register_rate_headers(app)
    for blueprint in (
        jobs_api,
        bulk_retry_api,
        events_api,
        batches_api,
        presets_api,
        artifacts_api,
        archives_api,
        uploads_api,
        upload_parts_api,
        triggers_api,
        s3_events_api,
        webhooks_api,
        variants_api,
        queues_api,
        workers_api,
        health_api,
        api_keys_api,
        audit_api,
        tenants_api,
        predictions_api,
        prediction_stream_api,
        models_api,
        files_api,
        fal_root_api,
        fal_queue_api,
        fal_run_api,
        fal_storage_api,
    ):
        app.register_api(blueprint)
    app.register_blueprint(dashboard)
    app.add_url_rule("/openapi.json", "openapi_document", open_to_all(lambda: _served_document(app)))
    app.wsgi_app = ThreadWaiting(app.wsgi_app, lambda: app.extensions[EXTENSION])  # type: ignore[method-assign]
    return app


def _served_document(app: DocumentedApp) -> dict[str, Any]:
    needs_key = current_context().settings.require_api_key
    return app.api_doc if needs_key else without_keys(app.api_doc)


def _refuse_foreign_host() -> Response | None:
    """Answer 400 to a request for another host, before anything else; log it once a minute."""
    ctx = current_context()
    if ctx.allowed_hosts.allow(request.host):
        return None
    shown = repr(request.host[:MAX_PATH_CHARS])
    if ctx.log_limit.allows("foreign host"):
        log.warning("refused a request for the host %s (said once a minute); see MMAUDIO_ALLOWED_HOSTS", shown)
    return problem(
        400,
        "host_not_allowed",
        f"Got Host {shown}; this server does not answer to that name. If callers reach it so, the operator adds the "
        "name to MMAUDIO_ALLOWED_HOSTS; behind a gateway, let the gateway pass on the Host that it received.",
    )


def _refuse_nul() -> Response | None:
    """Refuse NUL characters: no id and no filter has one, and PostgreSQL accepts none in a query."""
    if "\x00" in request.path:
        raise NotFound
    for name, value in request.args.items(multi=True):
        if "\x00" in name + value:
            fields = [{"field": name, "message": "a NUL character is not allowed"}]
            return problem(422, "invalid_request", "A NUL character is not allowed.", fields=fields)
    return None


def _expect_json() -> Response | None:
    """Refuse bodies that are not a JSON object before they are parsed; so no form can post from another site."""
    if waited() is not None:
        return None  # its body was checked the first time
    if request.method not in {"POST", "PUT"} or not request.path.startswith(JSON_PATHS):
        return None
    if request.routing_exception is not None or is_upload_content(request.method, request.path):
        return None
    if request.endpoint == EVENTS_ENDPOINT:
        return None  # object stores send other types; the shared token keeps other sites out
    if request.endpoint == BATCHES_ENDPOINT:
        return None  # an array or lines are allowed too; it refuses the types that forms have
    if request.endpoint in FILE_ENDPOINTS or (not request.content_length and request.endpoint in BODY_OPTIONAL):
        if _is_from_other_site():
            return problem(403, "cross_site", "Calls from other sites are not allowed.")
        return None
    if request.mimetype != "application/json":
        return problem(415, "wrong_media_type", f"Got {request.mimetype or 'no content type'}; send application/json.")
    if request.content_length is None and len(request.get_data()) >= body_limit("POST", request.path):
        raise RequestEntityTooLarge  # a chunked body was read up to the limit only
    check_json_values(request.get_data())
    try:
        body: Any = request.get_json()
    except (BadRequest, RecursionError):
        return problem(400, "malformed_json", "The body is not JSON.")
    check_json_size(body)
    if isinstance(body, dict) and (field := _field_with_nul(body)) is not None:
        fields = [{"field": field, "message": "a NUL character is not allowed"}]
        return problem(422, "invalid_request", f"Not allowed: {field}.", fields=fields)
    if not isinstance(body, dict):
        return problem(
            422,
            "invalid_request",
            "The body must be a JSON object.",
            fields=[{"field": "body", "message": "not an object"}],
        )
    return None


def _is_from_other_site() -> bool:
    """Return whether a browser sends this for a page of another site; only browsers tell."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host


def _field_with_nul(body: dict[str, Any]) -> str | None:
    """Return the path of a field whose name or value has a NUL character, such as `metadata.a`; None: there is none."""
    if b"\\u0000" not in request.get_data() and b"\x00" not in request.get_data():
        return None
    waiting: list[tuple[str, Any]] = [("", body)]
    while waiting:
        path, value = waiting.pop()
        if "\x00" in path or (isinstance(value, str) and "\x00" in value):
            return path.replace("\x00", "\\0")[:MAX_PATH_CHARS]
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(f"{path}.{name}".removeprefix("."), each) for name, each in inner]
    return None
