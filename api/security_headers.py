"""Headers that limit what a browser does with answers: no guessing of types, no frames, no code from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re

from flask import Flask, Response, redirect, request

DOCS_PATH = "/docs"
# Documents are data; a file that is opened by itself is shown in a page that the browser makes around it.
DATA_POLICY = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
DASHBOARD_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' https: http:; "
    "connect-src 'self' https: http:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI sets styles from code; its inline scripts are allowed by their hashes, nothing else inline is.
_DOCS_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def register_security_headers(app: Flask) -> None:
    """Add the headers to every answer; lead `/docs` to the page of the API's documentation."""
    app.before_request(_skip_docs_index)
    app.after_request(_add_headers)


def _skip_docs_index() -> Response | None:
    """Redirect the index of one entry, which runs code in an attribute: no policy worth having allows that."""
    if request.path.rstrip("/") == DOCS_PATH and request.method in {"GET", "HEAD"}:
        return redirect(f"{DOCS_PATH}/swagger")  # type: ignore[return-value]
    return None


def _add_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("X-Frame-Options", "DENY")
    if "Content-Security-Policy" not in headers:
        of_docs = response.mimetype == "text/html" and request.path.startswith(f"{DOCS_PATH}/")
        headers["Content-Security-Policy"] = _docs_policy(response) if of_docs else DATA_POLICY
    return response


def _docs_policy(response: Response) -> str:
    page = b"" if response.direct_passthrough else response.get_data()
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(page)
    ]
    return _DOCS_POLICY.format(scripts=" ".join(["'self'", *hashes]))
