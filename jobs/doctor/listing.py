"""Reads the keys of a store in ranges of owners (jobs or uploads), so that neither keys nor rows are ever whole in
memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement

JOB_KEY = re.compile(r"jobs/(?P<owner>job_[0-9a-z]+)/(?P<attempt>[1-9][0-9]{0,8})/(?P<name>[^/]+)")
UPLOAD_KEY = re.compile(r"uploads/(?P<owner>upl_[0-9a-z]+)/(?:content|wr_[0-9a-f]{32})")


@dataclass(frozen=True)
class Owner:
    """A job or an upload by the id in its keys, with those keys."""

    id: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class OwnerRange:
    """Consecutive owners of which the store has objects, and all ids from behind `after` up to `last`."""

    owners: list[Owner] = field(default_factory=list)
    after: str = ""
    last: str | None = None
    """None: no end."""

    def contains(self, owner_id: Any) -> ColumnElement[bool]:
        """Return the condition that a column's id is in the range."""
        behind: ColumnElement[bool] = owner_id > self.after
        return behind if self.last is None else behind & (owner_id <= self.last)

    @property
    def ids(self) -> list[str]:
        """The ids of the owners."""
        return [owner.id for owner in self.owners]

    @property
    def keys(self) -> set[str]:
        """The keys of the owners."""
        return {key for owner in self.owners for key in owner.keys}


def owner_ranges(keys: Iterable[str], pattern: re.Pattern[str], size: int) -> Iterator[OwnerRange | str]:
    """Group sorted keys into ranges of `size` owners, which cover all ids; a key that does not match comes alone."""
    owners: list[Owner] = []
    after = ""
    for owner_id, group in groupby(keys, key=lambda key: _owner_id(key, pattern)):
        if owner_id is None:
            yield from group
            continue
        owners.append(Owner(owner_id, tuple(group)))
        if len(owners) == size:
            yield OwnerRange(owners, after, owner_id)
            owners, after = [], owner_id
    yield OwnerRange(owners, after)


def _owner_id(key: str, pattern: re.Pattern[str]) -> str | None:
    match = pattern.fullmatch(key)
    return match["owner"] if match is not None else None
