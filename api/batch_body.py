"""Reads the body of `POST /v1/batches`: a JSON object, a JSON array, or a request a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from api.schemas.batches import JSON_LINES, BatchBody, BatchOptions
from jobs.errors import DomainError, FieldProblem, RequestInvalidError
from jobs.request import JobRequest
from jobs.service.batch_creation import MAX_PROBLEMS, BatchInvalidError, ItemProblem, NewBatch
from jobs.service.batches import MAX_REQUESTS
from jobs.service.request_changes import field_problems

MEDIA_TYPES = ("application/json", *JSON_LINES)


class MalformedJsonError(DomainError):
    """Raised for a body that is not JSON."""

    code = "malformed_json"


class MediaTypeError(DomainError):
    """Raised for a body of another type than a call takes."""

    code = "wrong_media_type"


class BatchRequests:
    """The requests of a body, and where each stands.

    Attributes:
        lines: numbers of their lines, from 1; None: the body has no lines.
    """

    def __init__(self, items: list[Any], lines: list[int] | None) -> None:
        self.items, self.lines = items, lines

    def field(self, item: ItemProblem) -> dict[str, Any]:
        """Return a problem as it is listed in the answer."""
        entry: dict[str, Any] = {
            "field": f"requests.{item.index}.{item.problem.field}",
            "message": item.problem.message,
            "index": item.index,
        }
        if self.lines is not None:
            entry["line"] = self.lines[item.index]
        return entry


def read_batch(data: bytes, media_type: str, options: BatchOptions) -> tuple[BatchRequests, NewBatch]:
    """Return the requests of a body as they stand there, and the batch that they are.

    Raises:
        MediaTypeError: the body is of another type.
        MalformedJsonError: it is not JSON.
        RequestInvalidError: it is not a batch.
    """
    if media_type not in MEDIA_TYPES:
        raise MediaTypeError(f"Got {media_type or 'no content type'}; send {', '.join(MEDIA_TYPES)}.")
    metadata: dict[str, str] = {}
    if media_type in JSON_LINES:
        requests = _lines(data)
    else:
        document = _parse(data, "The body")
        if isinstance(document, dict):
            body = _parse_object(document)
            requests, metadata = BatchRequests(body.requests, None), body.metadata
            options = BatchOptions(name=body.name or options.name, webhook_url=body.webhook_url or options.webhook_url)
        elif isinstance(document, list):
            requests = BatchRequests(document, None)
        else:
            raise RequestInvalidError.of("body", "give an object with `requests`, or an array of requests")
    if not 1 <= len(requests.items) <= MAX_REQUESTS:
        raise RequestInvalidError.of("requests", f"got {len(requests.items)}; give 1 to {MAX_REQUESTS} requests")
    return requests, NewBatch((), options.name, metadata, options.webhook_url)


def parse_requests(requests: BatchRequests) -> list[JobRequest]:
    """Return the requests, checked field by field.

    Raises:
        BatchInvalidError: some are not valid.
    """
    parsed: list[JobRequest] = []
    problems: list[ItemProblem] = []
    for index, item in enumerate(requests.items):
        try:
            parsed.append(JobRequest.model_validate(item))
        except ValidationError as exc:
            found = field_problems(exc) if isinstance(item, dict) else [FieldProblem("request", "not an object")]
            problems += [ItemProblem(index, problem) for problem in found]
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:
        raise BatchInvalidError(problems[:MAX_PROBLEMS])
    return parsed


def _parse_object(document: dict[str, Any]) -> BatchBody:
    try:
        return BatchBody.model_validate(document)
    except ValidationError as exc:
        raise RequestInvalidError(list(field_problems(exc))[:MAX_PROBLEMS]) from exc


def _lines(data: bytes) -> BatchRequests:
    items: list[Any] = []
    numbers: list[int] = []
    for number, line in _numbered(data):
        items.append(_parse(line, f"Line {number}"))
        numbers.append(number)
        if len(items) > MAX_REQUESTS:
            break
    return BatchRequests(items, numbers)


def _numbered(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _parse(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise MalformedJsonError(f"{what} is not JSON.") from exc
