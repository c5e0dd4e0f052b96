"""The OpenAPI document as a file: `make openapi` writes `docs/openapi.json`."""

from __future__ import annotations

import json
import sys

from api.app import new_app


def openapi_text() -> str:
    """Return the document that the API serves, formatted."""
    document = new_app(access_log=False).api_doc  # type: ignore[attr-defined]
    return json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_text())
