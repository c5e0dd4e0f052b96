"""Maps a function over items, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

Result = TypeVar("Result")


def map_in_processes(function: Callable[..., Result], *arguments: Iterable[Any], processes: int) -> Iterator[Result]:
    """Yield the results in order.

    Args:
        function: picklable if there are several processes.
        processes: 1 runs the function in this process.
    """
    if processes <= 1:
        yield from map(function, *arguments)
        return
    # Spawned: a forked child of a process that uses torch's threads can hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, *arguments)
