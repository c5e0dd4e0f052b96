"""What is wrong with a setting, as one sentence: which setting, what was got, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from jobs.settings_values import mask_url

PREFIX = "MMAUDIO_"
# Read by the client, which is configured without this module.
CLIENT_VARIABLES = frozenset({"MMAUDIO_API_URL", "MMAUDIO_API_KEY"})
RENAMED = {
    "ageing_s": "priority_aging_s",
    "engine_stall_s": "engine_watchdog_s",
    "inbox_settle_s": "inbox_quiet_s",
    "link_ttl_s": "signed_url_ttl_s",
    "stalled_s": "consumer_stall_s",
    "stuck_after_s": "overdue_grace_s",
    "sweep_s": "maintenance_interval_s",
    "trigger_memory_s": "trigger_event_retention_s",
}
# Kubernetes sets these for every service of the namespace: MMAUDIO_API_SERVICE_HOST, MMAUDIO_API_PORT_8000_TCP, ...
_KUBERNETES = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_LONGEST_VALUE = 120
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    bool | None: "true or false",
    dict[str, Any]: 'a JSON object such as {"prompt": "rain"}',
}


class SettingsError(ValueError):
    """Raised for a setting that cannot be used; the message is one sentence for the operator."""


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.upper()


def explain(error: ErrorDetails, fields: Mapping[str, FieldInfo], label: Callable[[str], str]) -> str:
    """Return one validation error as a sentence.

    Args:
        label: returns how the operator wrote a setting: an option, a variable or a key of the file.
    """
    if not error["loc"]:  # a rule about several settings, which names them
        return _reason(error)
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{label(name)} is not a setting{did_you_mean(name, fields)}; `mmaudio settings` lists all."
    field = fields[name]
    if isinstance(error["input"], str | Path) and not _is_text(str(error["input"])):
        return f"{label(name)} is not valid UTF-8; give text."
    return f"{label(name)} is {shown(field, error['input'])}; {_allowed(error, field)}."


def shown(field: FieldInfo, value: object) -> str:
    """Return a value as a message may repeat it: short, and without secrets."""
    if field.annotation is SecretStr:
        return "a value that is not shown here"
    text = repr(mask_url(str(value)) if isinstance(value, str | Path) else value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def did_you_mean(name: str, known: Iterable[str], write: Callable[[str], str] = str) -> str:
    """Return ` (did you mean X?)` for a name that resembles a known one, else nothing."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.7)
    return f" (did you mean {write(close[0])}?)" if close else ""


def renamed_setting(names: Iterable[str], label: Callable[[str], str], write: Callable[[str], str]) -> str | None:
    """Return a sentence about the first of these names that an earlier release used, or None."""
    for name in names:
        if new_name := RENAMED.get(name):
            return f"{label(name)} has been renamed; set {write(new_name)} instead."
    return None


def unknown_variables(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return the `MMAUDIO_` variables that nothing reads, each with a warning."""
    settings = list(known)
    return {
        name: f"{name} is not a setting and has no effect"
        f"{did_you_mean(name.upper().removeprefix(PREFIX), settings, variable)}."
        for name in names
        if name.upper().startswith(PREFIX)
        and name.upper().removeprefix(PREFIX).lower() not in settings
        and name.upper() not in CLIENT_VARIABLES
        and not _KUBERNETES.fullmatch(name.upper())
    }


def _is_text(value: str) -> bool:
    """Return whether a value of the environment was UTF-8; Python replaces other bytes by lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _reason(error: ErrorDetails) -> str:
    """Return the message of a validator of ours, without what pydantic puts before it."""
    cause = error.get("ctx", {}).get("error")
    return str(cause) if cause is not None else error["msg"]


def _allowed(error: ErrorDetails, field: FieldInfo) -> str:
    if error["type"] == "value_error":
        return _reason(error)
    if error["type"] == "literal_error":
        return f"give {' or '.join(map(repr, get_args(field.annotation)))}"
    kind = next((text for type_, text in _KINDS.items() if field.annotation == type_), None)
    if kind is None:
        return error["msg"][:1].lower() + error["msg"][1:]
    return f"give {kind}{allowed_range(field.metadata)}"


def allowed_range(metadata: list[Any]) -> str:
    """Return the limits of a number as words after a space; nothing where there are none."""
    low = next((m.ge for m in metadata if isinstance(m, annotated_types.Ge)), None)
    above = next((m.gt for m in metadata if isinstance(m, annotated_types.Gt)), None)
    high = next((m.le for m in metadata if isinstance(m, annotated_types.Le)), None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if above is not None and high is not None:
        return f" greater than {above}, at most {high}"
    return ""
