"""Options and files that hold JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


def json_object(text: str, what: str) -> dict[str, Any]:
    """Return the JSON object that a text is.

    Raises:
        click.UsageError: it is none; names `what`.
    """
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as exc:
        raise click.UsageError(f"{what} is not JSON: {exc}.") from exc
    if not isinstance(found, dict):
        raise click.UsageError(f'{what} is not a JSON object, such as {{"prompt": "rain"}}.')
    return found


def read_requests(path: Path) -> list[dict[str, Any]]:
    """Return the requests in a file (`-`: standard input): an array, an object with `requests`, or an object a line.

    Raises:
        click.UsageError: the file holds something else; names the place.
        OSError: it cannot be read.
    """
    with click.open_file(str(path), encoding="utf-8") as file:
        try:
            text = file.read()
        except UnicodeDecodeError as exc:
            raise click.UsageError(f"{path} is not UTF-8 text.") from exc
    try:
        whole = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        return [json_object(line, f"Line {number} of {path}") for number, line in lines]
    found = whole.get("requests", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise click.UsageError(f"{path} does not hold a list of requests.")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")
