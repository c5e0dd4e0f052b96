"""Base of the models of parameters: their schema is made once, and not for each request."""

from __future__ import annotations

import functools
import re
from typing import Any

from pydantic import BaseModel, Field


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


def page_cursor(form: re.Pattern[str], description: str = "`next_cursor` of the previous page.") -> Any:
    """Return the field of a cursor.

    Args:
        form: what the places look like from which pages of this list go on.
    """
    return Field(None, max_length=200, pattern=f"^{form.pattern}$", description=description)
