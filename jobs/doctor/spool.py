"""Findings in a temporary file: all are known before the first repair, and their number does not matter for memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from jobs.doctor.finding import Action, Finding, Kind


class FindingSpool:
    """Keeps findings in the order in which they were added; a context manager, and the file ends with it.

    Raises (all methods):
        OSError: the folder for temporary files is full.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", prefix="mmaudio-doctor-")  # noqa: SIM115

    def add(self, finding: Finding) -> None:
        """Append a finding."""
        fields = (finding.kind, finding.subject, finding.detail, finding.action, finding.owner_id, finding.key)
        self._file.write(json.dumps(fields) + "\n")

    def __iter__(self) -> Iterator[Finding]:
        self._file.flush()
        self._file.seek(0)
        for line in self._file:
            kind, subject, detail, action, owner_id, key = json.loads(line)
            yield Finding(Kind(kind), subject, detail, Action(action), owner_id, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
