"""The client's models have every field of the API's documents, with its type: checked against the OpenAPI document."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from api.app import new_app
from mmaudio_client import (
    Artifact,
    Attempt,
    Batch,
    Event,
    Job,
    JobError,
    JobRequest,
    JobWarning,
    Preset,
    Preview,
    SubmitFields,
)
from mmaudio_client.models import Peaks, Spectrogram

MODELS: dict[str, type] = {
    "ArtifactView": Artifact,
    "AttemptView": Attempt,
    "BatchView": Batch,
    "ErrorView": JobError,
    "EventView": Event,
    "JobRequest": JobRequest,
    "JobView": Job,
    "PeaksView": Peaks,
    "PresetView": Preset,
    "PreviewView": Preview,
    "SpectrogramView": Spectrogram,
    "WarningView": JobWarning,
}
"""The client's models by the name of their schema."""
OF_ANOTHER_TYPE = {("JobView", "request"): {JobRequest}, ("EventView", "id"): {int, type(None)}}
"""Fields with a type of their own: the request is a model, and progress is an event without an id."""


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return dict(new_app(access_log=False).api_doc["components"]["schemas"])


def kinds_of_schema(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> set[object]:
    """The Python types of the values that a schema allows, as the client's models write them."""
    for members in ("anyOf", "oneOf", "allOf"):
        if members in schema:
            return set().union(*(kinds_of_schema(one, schemas) for one in schema[members]))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {MODELS[name]} if name in MODELS else kinds_of_schema(schemas[name], schemas)
    if "const" in schema or "enum" in schema:
        return {type(value) for value in schema.get("enum", [schema.get("const")])}
    if isinstance(schema.get("type"), list):
        return set().union(*(kinds_of_schema({**schema, "type": one}, schemas) for one in schema["type"]))
    match schema.get("type"):
        case "array":
            return {tuple}
        case "object":
            return {Mapping}
        case "string":
            return {datetime if schema.get("format") == "date-time" else str}
        case kind:
            return {{"integer": int, "number": float, "boolean": bool, "null": type(None)}[str(kind)]}


def kinds_of_hint(hint: Any) -> set[object]:
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return set().union(*map(kinds_of_hint, get_args(hint)))
    if origin is Literal:
        return {type(value) for value in get_args(hint)}
    return {Mapping if origin is not None and issubclass(origin, Mapping) else origin or hint}


@pytest.mark.parametrize("name", MODELS)
def test_every_field_of_a_document_is_one_of_the_client(schemas: dict[str, Any], name: str) -> None:
    model, properties = MODELS[name], schemas[name]["properties"]
    hints = get_type_hints(model)
    assert set(properties) <= {field.name for field in fields(model)}
    for field, schema in properties.items():
        expected = OF_ANOTHER_TYPE.get((name, field)) or kinds_of_schema(schema, schemas)
        found = kinds_of_hint(hints[field])
        if name == "JobRequest":  # an older server's request may lack the field
            found -= {type(None)} - expected
        assert found == expected, field


def test_submit_takes_every_field_of_a_request(schemas: dict[str, Any]) -> None:
    assert is_typeddict(SubmitFields)
    wanted = schemas["JobRequest"]["properties"]
    hints = get_type_hints(SubmitFields)
    assert set(wanted) - {"video", "image"} == set(hints)
    for name, hint in hints.items():
        choices = choices_of_schema(wanted[name], schemas)
        if all(isinstance(value, str) for value in choices):  # allowed numbers may become more
            assert choices_of_hint(hint) == choices, name


def choices_of_schema(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> set[object]:
    """The values of which a schema allows one, where it names them."""
    if "$ref" in schema:
        return choices_of_schema(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    found = set(schema.get("enum", [])) | ({schema["const"]} if "const" in schema else set())
    for one in schema.get("anyOf", []):
        found |= choices_of_schema(one, schemas)
    return found | (choices_of_schema(schema["items"], schemas) if "items" in schema else set())


def choices_of_hint(hint: Any) -> set[object]:
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    found: set[object] = set()
    for one in get_args(hint):
        found |= choices_of_hint(one) if get_args(one) else set()
    return found
