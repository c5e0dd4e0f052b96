"""Job ids as people type them: with or without `job_`, whole or only the beginning."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote

from mmaudio_client.errors import AmbiguousJobIdError, InvalidJobIdError, NotFoundError
from mmaudio_client.models import Job

PREFIX = "job_"
ID_DIGITS = 32
LEAST_DIGITS = 4
SEARCHED_JOBS = 10_000
SHOWN_CANDIDATES = 5
_IN_A_PATH = re.compile(r"[A-Za-z0-9_-]+")
_SHAPE = re.compile(rf"(?:{PREFIX})?([0-9a-f]{{{LEAST_DIGITS},{ID_DIGITS}}})")


def normalized(text: str) -> str:
    """Return an id, or the beginning of one, as the server writes it.

    Raises:
        InvalidJobIdError: it is neither.
    """
    match = _SHAPE.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if match is None:
        raise InvalidJobIdError(
            f"{text!r} is not a job id. Give an id as `mmaudio list` shows it ({PREFIX} and {ID_DIGITS} hexadecimal "
            f"digits), or at least its first {LEAST_DIGITS} digits."
        )
    return PREFIX + match[1]


def job_id_of(job: Job | str) -> str:
    """Return the id of a job.

    Raises:
        InvalidJobIdError: a text that can be none.
    """
    if isinstance(job, Job):
        return job.id
    if not isinstance(job, str) or _IN_A_PATH.fullmatch(job) is None:
        raise InvalidJobIdError(f"{job!r} is not a job id; give one as `Client.list` yields it.")
    return job


def job_path(job_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def is_whole(job_id: str) -> bool:
    """Return whether a normalized id has all its digits."""
    return len(job_id) == len(PREFIX) + ID_DIGITS


async def find_by_prefix(prefix: str, newest_first: AsyncIterator[Job]) -> Job:
    """Return the only job whose id begins with `prefix`.

    Ids begin with the time at which the job was created, so the search ends where older jobs begin.

    Raises:
        AmbiguousJobIdError: several jobs begin so; names some.
        NotFoundError: none does; names the ids that come closest.
    """
    matches: list[Job] = []
    newer = older = ""
    searched = 0
    async for job in newest_first:
        searched += 1
        if job.id.startswith(prefix):
            matches.append(job)
        elif job.id < prefix:
            older = job.id
            break
        else:
            newer = job.id
        if len(matches) > SHOWN_CANDIDATES or searched >= SEARCHED_JOBS:
            break
    if not matches:
        raise NotFoundError(404, "job_not_found", _not_found(prefix, [*filter(None, (newer, older))], searched))
    if len(matches) > 1:
        raise AmbiguousJobIdError(_ambiguous(prefix, matches), tuple(job.id for job in matches))
    return matches[0]


def _not_found(prefix: str, nearest: Sequence[str], searched: int) -> str:
    among = f" among the newest {searched}" if searched >= SEARCHED_JOBS else ""
    hint = f" Closest: {', '.join(nearest)}." if nearest else ""
    return f"No job{among} has an id that begins with {prefix}.{hint} `mmaudio list` shows all."


def _ambiguous(prefix: str, matches: Sequence[Job]) -> str:
    shown = [f"  {job.id} ({job.state})" for job in matches[:SHOWN_CANDIDATES]]
    more = ["  and more"] if len(matches) > SHOWN_CANDIDATES else []
    return "\n".join([f"Several jobs have an id that begins with {prefix}; give more digits:", *shown, *more])
