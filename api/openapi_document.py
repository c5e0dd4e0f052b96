"""The OpenAPI document: what the routes declare, and what holds for every call.

`python -m api.openapi_document > docs/openapi.json` writes the committed one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from flask import Flask
from flask_openapi3 import OpenAPI

from api.auth import Access
from api.key_check import access_of

SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer KEY`, with a key of `POST /v1/api-keys` or `mmaudio keys create`. A "
        "server that is reached from its own machine only may need none; its own document says so.",
    }
}
_JSON, _PROBLEM = "application/json", "application/problem+json"
_DESCRIPTIONS = {
    "400": "The request is malformed, or for a host that this server does not answer to.",
    "401": "There is no valid key.",
    "403": "The key or the link does not allow this, or the call comes from another site.",
    "404": "There is no such thing, or it is another tenant's.",
    "408": "The body arrived too slowly.",
    "410": "It was deleted, or has expired.",
    "411": "The body needs a Content-Length.",
    "413": "The body, or what it announces, is too large.",
    "415": "The body has another media type than is allowed.",
    "422": "A field or parameter is not allowed; `errors` names each.",
    "429": "A limit is reached; `Retry-After` tells when to try again.",
    "503": "The server is busy, or something that it needs does not answer; `Retry-After` tells when to try again.",
}
# Parameters that name a job, which may have been deleted.
_OF_JOBS = ("{job_id}", "{prediction_id}", "{request_id}")
# Of calls that need nothing of the kind.
_WITHOUT_BUSY = frozenset({"/healthz"})
_LIMIT_HEADERS = {
    "Retry-After": "Seconds after which to try again.",
    "RateLimit-Limit": "The limit.",
    "RateLimit-Remaining": "What is left of it.",
    "RateLimit-Reset": "Seconds until it is whole again.",
}


class DocumentedApp(OpenAPI):
    """An app whose document is completed by what holds for all calls."""

    def generate_spec_json(self) -> None:
        """Make the document."""
        super().generate_spec_json()  # type: ignore[no-untyped-call]
        complete(self, self.spec_json)


def complete(app: Flask, document: dict[str, Any]) -> None:
    """Add to a document what the routes need not declare: security, and the refusals that any call may meet."""
    rules = {_template(rule.rule): rule.rule for rule in app.url_map.iter_rules()}
    endpoints = {
        (rule.rule, method): rule.endpoint for rule in app.url_map.iter_rules() for method in rule.methods or ()
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            access = access_of(app, endpoints[rules[path], method.upper()], method.upper())
            _secure(operation, access)
            _refusals(path, method, operation)
            for parameter in operation.get("parameters", ()):
                _never_null(parameter["schema"])


def without_keys(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a server that needs no key: a key may be sent, and is checked then."""
    paths = {
        path: {
            method: {**operation, "security": [{}, *operation["security"]]} if operation["security"] else operation
            for method, operation in operations.items()
        }
        for path, operations in document["paths"].items()
    }
    return {**document, "paths": paths}


def _secure(operation: dict[str, Any], access: Any) -> None:
    if access is Access.OPEN:
        operation["security"] = []
        return
    operation["security"] = [{"bearer": []}]
    if access is Access.SIGNED_LINK:
        operation["security"].append({})
        note = "A signed link needs no key."
    else:
        note = f"Needs a key with the scope `{access}`."
    operation["description"] = f"{operation.get('description', '')}\n\n{note}".strip()


def _refusals(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    wanted = ["400", "422"]
    if path not in _WITHOUT_BUSY:
        wanted.append("503")
    if "{" in path:
        wanted.append("404")
    if any(name in path for name in _OF_JOBS):
        wanted.append("410")
    if "requestBody" in operation:
        wanted += ["408", "411", "413", "415"]
    elif method in {"post", "put", "patch"}:
        wanted += ["411", "413", "415"]
    fal = path.startswith("/fal")
    schema = {"$ref": f"#/components/schemas/{'FalFault' if fal else 'Problem'}"}
    for status in wanted:
        if status not in responses or (list(responses[status].get("content", {})) == [_JSON] and not fal):
            if (path, status) == ("/readyz", "503"):
                continue
            responses[status] = {"content": {_JSON if fal else _PROBLEM: {"schema": schema}}}
    for status, response in responses.items():
        if not response.get("description") or (status in _DESCRIPTIONS and int(status) >= 400):
            response["description"] = _DESCRIPTIONS.get(status, response.get("description") or "")
        if status in {"429", "503"} and (path, status) != ("/readyz", "503"):
            names = _LIMIT_HEADERS if status == "429" else ("Retry-After",)
            response["headers"] = {
                name: {"description": _LIMIT_HEADERS[name], "schema": {"type": "integer"}} for name in names
            } | (response.get("headers") or {})
    operation["responses"] = dict(sorted(responses.items()))


def _never_null(schema: dict[str, Any]) -> None:
    """Take null out of the schema of a parameter: there is no way to send it."""
    forms = [form for form in schema.get("anyOf", ()) if form != {"type": "null"}]
    if len(forms) == 1:
        del schema["anyOf"]
        schema.update(forms[0])
    elif forms:
        schema["anyOf"] = forms
    if schema.get("default", "") is None:
        del schema["default"]


def _template(rule: str) -> str:
    return rule.replace("<", "{").replace(">", "}")


def main() -> None:
    """Write the document of a server that needs keys to standard output."""
    from api.app import new_app

    document: Any = new_app(access_log=False).api_doc  # type: ignore[attr-defined]
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
