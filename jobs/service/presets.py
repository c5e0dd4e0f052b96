"""Presets: named templates of requests, in versions that never change; a job's request is frozen when it is created."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select, update

from jobs.data_uris import is_data_uri
from jobs.db.batch_tables import Preset
from jobs.db.database import Transaction
from jobs.errors import PresetLimitError, PresetNotFoundError, RequestInvalidError
from jobs.request import PRESET_REFERENCE, JobRequest
from jobs.service.request_changes import parse_request

MAX_PRESETS = 1_000
MAX_VERSIONS = 1_000
MAX_PAGE = 200
PRESET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PLACEHOLDER = f"upl_{0:032x}"


@dataclass
class PresetLookup:
    """The presets that the requests of one transaction name; each is read once."""

    tx: Transaction
    _found: dict[str, Preset] = field(default_factory=dict)

    def apply(self, request: JobRequest) -> tuple[JobRequest, str | None]:
        """Return the request with the fields of its preset that it does not have itself, and the preset's version.

        Raises:
            RequestInvalidError: there is no such preset, or the request as a whole is not valid.
        """
        if request.preset is None:
            return request, None
        if request.preset not in self._found:
            try:
                self._found[request.preset] = find_preset(self.tx, request.preset)
            except PresetNotFoundError as exc:
                raise RequestInvalidError.of("preset", exc.message) from exc
        preset = self._found[request.preset]
        given = request.model_dump(mode="json", exclude_unset=True)
        del given["preset"]
        return parse_request(_merged(preset.request, given)), f"{preset.name}@{preset.version}"


def _merged(template: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(template)
    if given.get("video") is not None or given.get("image") is not None:  # its source replaces the preset's
        fields.pop("video", None)
        fields.pop("image", None)
    return {**fields, **given}


def find_preset(tx: Transaction, reference: str) -> Preset:
    """Return the preset that `name` (its newest version) or `name@version` names.

    Raises:
        PresetNotFoundError: the tenant has none.
    """
    match = PRESET_REFERENCE.fullmatch(reference)
    name, version = (match["name"], match["version"]) if match is not None else (reference, None)
    query = select(Preset).where(Preset.name == name, Preset.deleted_at.is_(None))
    if version is not None:
        query = query.where(Preset.version == int(version))
    found = tx.session.scalar(query.order_by(Preset.version.desc()).limit(1))
    if found is None:
        raise PresetNotFoundError(f"There is no preset {reference}.")
    return found


def list_presets(tx: Transaction, *, after: str, limit: int) -> list[Preset]:
    """Return the newest versions of the presets whose name comes after `after`, by name."""
    names = select(Preset.name).where(Preset.deleted_at.is_(None), Preset.name > after)
    page = list(tx.session.scalars(names.distinct().order_by(Preset.name).limit(limit)))
    return [find_preset(tx, name) for name in page]


def list_versions(tx: Transaction, name: str) -> list[Preset]:
    """Return all versions of a preset, newest first.

    Raises:
        PresetNotFoundError: the tenant has none of this name.
    """
    query = select(Preset).where(Preset.name == name, Preset.deleted_at.is_(None))
    versions = list(tx.session.scalars(query.order_by(Preset.version.desc())))
    if not versions:
        raise PresetNotFoundError(f"There is no preset {name}.")
    return versions


def put_preset(tx: Transaction, name: str, request: Mapping[str, Any], description: str | None) -> tuple[Preset, bool]:
    """Add a version of a preset whose template is valid (see `check_template`); return it, and whether it is new.

    The newest version is returned instead where it is the same. Two calls at once may want the same number: then the
    insert violates the primary key, and the transaction is to be run again.

    Raises:
        PresetLimitError: the tenant has too many presets, or too many versions of this one.
    """
    own = Preset.name == name
    newest = tx.session.scalar(select(Preset).where(own).order_by(Preset.version.desc()).limit(1))
    is_known = newest is not None and newest.deleted_at is None
    if newest is not None and is_known and (newest.request, newest.description) == (dict(request), description):
        return newest, False
    if not is_known:
        names = select(Preset.name).where(Preset.deleted_at.is_(None)).distinct().limit(MAX_PRESETS)
        if tx.session.execute(select(func.count()).select_from(names.subquery())).scalar_one() >= MAX_PRESETS:
            raise PresetLimitError(f"At most {MAX_PRESETS} presets are allowed; delete one first.")
    versions = select(func.count()).where(own, Preset.deleted_at.is_(None))
    if tx.session.execute(versions).scalar_one() >= MAX_VERSIONS:
        raise PresetLimitError(f"At most {MAX_VERSIONS} versions of a preset are allowed; take another name.")
    added = Preset(
        tenant=tx.tenant,
        name=name,
        version=newest.version + 1 if newest is not None else 1,
        description=description,
        request=dict(request),
        created_at=tx.now,
    )
    tx.session.add(added)
    tx.session.flush()
    return added, True


def delete_preset(tx: Transaction, name: str) -> None:
    """Delete all versions of a preset; jobs keep what they got from it, and its numbers are not given again.

    Raises:
        PresetNotFoundError: the tenant has none of this name.
    """
    find_preset(tx, name)
    tx.session.execute(
        update(Preset)
        .where(Preset.name == name, Preset.deleted_at.is_(None))
        .values(deleted_at=tx.now, request={}, description=None),
        execution_options={"synchronize_session": False},
    )


def check_template(request: Mapping[str, Any]) -> JobRequest:
    """Return a request as jobs with this template have it, checked as a whole.

    A template may need a video, which each job then brings.

    Raises:
        RequestInvalidError: no request with this template is valid.
    """
    if "preset" in request:
        raise RequestInvalidError.of("preset", "a preset cannot name another one; give its fields")
    try:
        parsed = parse_request(request)
        if parsed.source is not None and is_data_uri(parsed.source):
            raise RequestInvalidError.of(parsed.source_field, "a preset cannot hold a file; upload it and give its id")
        return parsed
    except RequestInvalidError:
        if request.get("video") is not None or request.get("image") is not None:
            raise
    return parse_request({**request, "video": _PLACEHOLDER})
