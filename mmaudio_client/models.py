"""What the API answers, as frozen values. Fields that a newer server adds stay readable in `raw`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TERMINAL_STATES = frozenset({"succeeded", "failed", "canceled"})


@dataclass(frozen=True)
class Artifact:
    """A file that a job made. `url` is None once it has expired."""

    name: str
    kind: str
    format: str
    url: str | None
    size_bytes: int
    sha256: str
    duration_s: float
    seed: int

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Artifact:
        return cls(**{name: document[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Job:
    """A job as the server last told it."""

    id: str
    state: str
    stage: str | None
    progress: float
    step: int | None
    queue_position: int | None
    attempt: int
    artifacts: tuple[Artifact, ...]
    raw: Mapping[str, Any]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Job:
        return cls(
            id=document["id"],
            state=document["state"],
            stage=document["stage"],
            progress=document["progress"],
            step=document["step"],
            queue_position=document["queue_position"],
            attempt=document["attempt"],
            artifacts=tuple(Artifact.from_json(item) for item in document["artifacts"]),
            raw=document,
        )

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_STATES

    @property
    def error_message(self) -> str | None:
        error = self.raw.get("error")
        return str(error["message"]) if error else None

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(str(warning["message"]) for warning in self.raw["warnings"])

    def link(self, name: str) -> str | None:
        """Return a link of the job (`self`, `cancel`, `retry`); None when the call makes no sense now."""
        value = self.raw["links"].get(name)
        return str(value) if value else None


@dataclass(frozen=True)
class Page:
    """Some jobs, newest first, and the link to the next page."""

    jobs: tuple[Job, ...]
    next_link: str | None
