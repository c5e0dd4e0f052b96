"""The URLs that the hosted shapes need, and which of a job's files is its output there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from jobs.db.tables import Artifact
from jobs.lifecycle import ArtifactKind
from jobs.service.artifacts import artifact_expired

NO_REDIRECT = "redirect=0"
"""Query of an artifact's URL whose content this API sends itself. Clients that send their key with every request, or
follow no redirects, cannot be led to the object store."""


class ResultUrls(Protocol):
    """Builds URLs as of one time."""

    @property
    def base(self) -> str: ...

    @property
    def now(self) -> datetime: ...

    def artifact(self, job_id: str, name: str) -> str: ...


def output_of(artifacts: Sequence[Artifact], kind: ArtifactKind | None = None) -> Artifact | None:
    """Return the file that is a job's output: the video with its sound, or else the sound, of the first sample.

    Args:
        artifacts: in order of sample and name.
        kind: only of this kind.
    """
    named = [{"name": artifact.name, "kind": artifact.kind.value} for artifact in artifacts]
    name = output_name(named, kind)
    return next((artifact for artifact in artifacts if artifact.name == name), None)


def output_name(made: Sequence[Mapping[str, str]], kind: ArtifactKind | None = None) -> str | None:
    """Return the name of the output among what a job's last event names; see `output_of`."""
    for wanted in (ArtifactKind.VIDEO, ArtifactKind.AUDIO):
        names = [str(each["name"]) for each in made if each["kind"] == wanted.value and kind in {None, wanted}]
        if names:
            return names[0]
    return None


def output_url(artifact: Artifact, urls: ResultUrls) -> str | None:
    """Return the signed URL of an output, which needs no key and leads nowhere else; None: it has expired."""
    if artifact_expired(artifact, urls.now):
        return None
    return direct_url(urls, artifact.job_id, artifact.name)


def direct_url(urls: ResultUrls, job_id: str, name: str) -> str:
    """Return the signed URL of an artifact whose content the API sends itself."""
    url = urls.artifact(job_id, name)
    return f"{url}{'&' if '?' in url else '?'}{NO_REDIRECT}"


def shown_time(time: datetime | None) -> str | None:
    """Return a UTC time as the hosted services show it."""
    return None if time is None else time.isoformat(timespec="microseconds").replace("+00:00", "Z")
