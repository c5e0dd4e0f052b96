"""The application factory: settings in, a Flask app out. Importing this module does nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, request
from flask_openapi3 import Info, OpenAPI
from werkzeug.exceptions import BadRequest, NotFound, RequestEntityTooLarge

from api.access_log import register_access_log
from api.auth import current_tenant
from api.context import EXTENSION, AppContext
from api.dashboard.views import dashboard
from api.errors import invalid_fields, problem, register_error_handlers
from api.request_body import register_body_checks
from api.routes.artifacts import artifacts_api
from api.routes.health import health_api
from api.routes.jobs import jobs_api
from api.routes.queues import queues_api
from api.routes.s3_events import EVENTS_ENDPOINT, s3_events_api
from api.routes.triggers import triggers_api
from api.routes.uploads import uploads_api
from api.routes.variants import variants_api
from api.routes.workers import workers_api
from api.schemas.responses import Problem
from jobs.db.database import Database
from jobs.queue import Broker
from jobs.secret_key import load_secret_key
from jobs.service.scheduling.dispatch import Publisher
from jobs.settings import Settings
from jobs.storage.bucket_reader import BucketReader, LazyBucketReader
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from jobs.storage.signing import LinkSigner

MAX_JSON_BYTES = 1024 * 1024
MAX_PATH_CHARS = 200
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


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
    app = new_app(
        access_log=settings.access_log, check_host=settings.listens_on_loopback and not settings.trust_network
    )
    app.extensions[EXTENSION] = AppContext(
        settings=settings,
        db=db or Database(settings.database_url, pool_size=settings.api_threads // 2),
        store=store or open_store(settings),
        broker=broker or Broker(settings.resolved_broker_url()),
        signer=LinkSigner(load_secret_key(settings)),
        buckets=buckets or LazyBucketReader(settings),
    )
    return app


def new_app(*, access_log: bool, check_host: bool) -> Flask:
    """Return an app with every route, still without the context that they need.

    Args:
        access_log: log each request.
        check_host: answer only requests to this machine's own names.
    """
    app = OpenAPI(
        "api",
        info=Info(
            title="mmaudio-platform",
            version="1",
            description="Generates audio for videos, images and text with MMAudio models.",
        ),
        security_schemes={},
        doc_prefix="/docs",
        validation_error_model=Problem,
        validation_error_callback=invalid_fields,
        static_folder=None,
    )
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # its redirects are HTML pages
    if access_log:
        register_access_log(app)
    register_error_handlers(app)
    if check_host:
        app.before_request(_refuse_foreign_host)
    register_body_checks(app)
    app.before_request(_refuse_nul)
    app.before_request(_expect_json)
    app.after_request(_add_security_headers)
    for blueprint in (
        jobs_api,
        artifacts_api,
        uploads_api,
        triggers_api,
        s3_events_api,
        variants_api,
        queues_api,
        workers_api,
        health_api,
    ):
        app.register_api(blueprint)
    app.register_blueprint(dashboard)
    app.add_url_rule("/openapi.json", "openapi_document", lambda: app.api_doc)
    return app


def _refuse_foreign_host() -> Response | None:
    """Refuse DNS rebinding: a web page that lets its own name point at 127.0.0.1 sends that name as Host."""
    # Not Flask's TRUSTED_HOSTS, which knows no IPv6 address.
    if urlsplit(f"//{request.host}").hostname in LOOPBACK_NAMES:
        return None
    return problem(400, "bad_request", f"Got Host {request.host!r}; allowed are localhost, 127.0.0.1 and [::1].")


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
    current_tenant()
    if request.method != "POST" or not request.path.startswith("/v1/") or request.routing_exception is not None:
        return None
    if request.endpoint == EVENTS_ENDPOINT:
        return None  # object stores send other types; the shared token keeps other sites out
    if not request.content_length and request.endpoint in {"jobs.cancel_job", "jobs.retry_job", "workers.drain_worker"}:
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            return problem(403, "cross_site", "Calls from other sites are not allowed.")
        return None
    if request.mimetype != "application/json":
        return problem(415, "wrong_media_type", f"Got {request.mimetype or 'no content type'}; send application/json.")
    if request.content_length is None and len(request.get_data()) >= MAX_JSON_BYTES:
        raise RequestEntityTooLarge  # a chunked body was read up to the limit only
    try:
        body: Any = request.get_json()
    except (BadRequest, RecursionError):
        return problem(400, "malformed_json", "The body is not JSON.")
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


def _add_security_headers(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    return response
