"""Paths such as `/v1/jobs/retry`, which the rule of `/v1/jobs/<job_id>` would match as well.

Such a path has the methods of its own rules alone: 405 and `OPTIONS` name them, and no id is looked up for it.
"""

from __future__ import annotations

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import MethodNotAllowed

EXTENSION = "mmaudio-static-paths"


def register_static_paths(app: Flask) -> None:
    """Keep rules with parameters from answering for paths that have rules of their own."""
    app.before_request(_only_its_own_methods)


def _only_its_own_methods() -> Response | None:
    """Answer for a path that is only matched by a rule with parameters, though it has rules of its own.

    Raises:
        MethodNotAllowed: its own rules do not have this method.
    """
    own = _methods().get(request.path)
    if own is None:
        return None
    if request.method == "OPTIONS":
        response = Response()
        response.allow.update(own)
        return response
    if request.method not in own:
        raise MethodNotAllowed(valid_methods=own)
    return None


def _methods() -> dict[str, list[str]]:
    found: dict[str, list[str]] | None = current_app.extensions.get(EXTENSION)
    if found is None:
        sets: dict[str, set[str]] = {}
        for rule in current_app.url_map.iter_rules():
            if not rule.arguments:
                sets.setdefault(rule.rule, set()).update(rule.methods or ())
        found = current_app.extensions[EXTENSION] = {path: sorted(methods) for path, methods in sets.items()}
    return found
