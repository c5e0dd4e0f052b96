"""The brake: so many inconsistencies of one kind are rather a wrong setting than faults to repair one by one."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from jobs.doctor.finding import Kind

MAX_SHARE = 0.05
# Small installations exceed the share with a single fault.
ALWAYS_ALLOWED = 10


class Population(StrEnum):
    """What a check looks at, one by one."""

    ARTIFACTS = "artifacts"
    UPLOADS = "uploads"
    OBJECTS = "objects"
    PUBLISHED_JOBS = "published jobs"
    RUNNING_JOBS = "running jobs"


# Unfinished writes have none: each is proved stale by its age alone.
_POPULATIONS = {
    Kind.ARTIFACT_MISSING: Population.ARTIFACTS,
    Kind.ARTIFACT_ROW_MISSING: Population.OBJECTS,
    Kind.ARTIFACT_STILL_STORED: Population.OBJECTS,
    Kind.UPLOAD_MISSING: Population.UPLOADS,
    Kind.UPLOAD_STILL_STORED: Population.OBJECTS,
    Kind.OBJECT_ORPHANED: Population.OBJECTS,
    Kind.OBJECT_UNKNOWN: Population.OBJECTS,
    Kind.MESSAGE_MISSING: Population.PUBLISHED_JOBS,
    Kind.LEASE_EXPIRED: Population.RUNNING_JOBS,
}


def excesses(repairs: Counter[Kind], examined: Counter[Population]) -> list[str]:
    """Return a sentence for each kind of which there are too many to repair without being asked to.

    Args:
        repairs: how many repairs there are to make, by kind.
        examined: how many items the checks have looked at.
    """
    sentences = []
    for kind, count in sorted(repairs.items()):
        population = _POPULATIONS.get(kind)
        if population is None or count <= max(ALWAYS_ALLOWED, MAX_SHARE * examined[population]):
            continue
        sentences.append(
            f"{kind}: {count} of {examined[population]} {population}, which is more than {MAX_SHARE:.0%}. A setting "
            "may be wrong, such as MMAUDIO_STORAGE_URL, MMAUDIO_DATABASE_URL or MMAUDIO_BROKER_URL; if all are right, "
            "add --yes-all."
        )
    return sentences
