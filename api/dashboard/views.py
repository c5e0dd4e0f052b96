"""Serves the dashboard: one page and its static files."""

from __future__ import annotations

from flask import Blueprint, Response, render_template

from api.security_headers import DASHBOARD_POLICY

dashboard = Blueprint(
    "dashboard", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
)


@dashboard.get("/")
def index() -> Response:
    """Return the page. Uploads and media may use the object store directly, so http(s) is allowed for these alone."""
    response = Response(render_template("index.html"), mimetype="text/html")
    response.headers["Content-Security-Policy"] = DASHBOARD_POLICY
    response.headers["Cache-Control"] = "no-cache"
    return response
