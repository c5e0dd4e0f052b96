"""Base of the models of parameters: their schema is made once, and not for each request."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import BaseModel


class Parameters(BaseModel):
    """Query parameters or headers of a call. flask-openapi3 asks for the schema in every request."""

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Return the schema; the usual one is shared and must not be changed."""
        return super().model_json_schema(*arguments, **options) if arguments or options else cls._schema()

    @classmethod
    @functools.cache
    def _schema(cls) -> dict[str, Any]:
        return super().model_json_schema()
