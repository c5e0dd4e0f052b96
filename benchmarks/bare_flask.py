"""The least that can read a job: Flask and one SELECT, served as the API is. The baseline of `status_reads`.

`python -m benchmarks.bare_flask` with the API's variables in the environment. `/constant` answers without a database.
"""

from __future__ import annotations

from multiprocessing.connection import Connection

from flask import Flask, Response, jsonify
from sqlalchemy import create_engine, select

from api.bridge.asgi import Bridge
from api.bridge.limits import BridgeLimits
from api.server import SWITCH_INTERVAL_S, serve
from jobs.db.tables import Job
from jobs.settings import Settings


def bare_app(settings: Settings) -> Flask:
    """Return the app."""
    app = Flask(__name__)
    # Row-level security shows nothing to a session that names no tenant.
    options = {"options": "-c mmaudio.tenant=*"} if settings.database_url.startswith("postgresql") else {}
    engine = create_engine(settings.database_url, pool_size=settings.api_threads // 2, connect_args=options)
    jobs = Job.__table__

    @app.get("/v1/jobs/<job_id>")
    def get_job(job_id: str) -> tuple[Response, int] | Response:
        with engine.connect() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
        if row is None:
            return jsonify(code="job_not_found"), 404
        return jsonify(dict(row))

    @app.get("/readyz")
    def ready() -> Response:
        return jsonify(checks={})

    @app.get("/constant")
    def constant() -> Response:
        return jsonify(text="x" * 1500)

    return app


def _load(settings: Settings, _stopping: Connection) -> Bridge:
    import sys

    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return Bridge(bare_app(settings), BridgeLimits.from_settings(settings), is_streamed=lambda *_: False)


if __name__ == "__main__":
    serve(Settings(), _load)
