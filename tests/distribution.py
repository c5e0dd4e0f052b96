"""How pytest-xdist distributes the tests among its processes."""

from __future__ import annotations

import re

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Files that take longest, most expensive first: started last, one would keep a single process busy at the end.
SLOW_FIRST = (
    "tests/parity/test_end_to_end.py",
    "tests/parity/test_large.py",
    "tests/e2e/test_chaos.py",
    "tests/integration/test_workers.py",
    "tests/training/test_recipe.py",
    "tests/training/",
    "tests/e2e/",
    "tests/integration/",
    "tests/parity/",
    "tests/processes/",
    "tests/contract/",
)
# Files that load the same networks, of a gigabyte and more: one process shares them.
SHARED_NETWORKS = {
    f"tests/parity/{name}": "tests/parity/test_end_to_end.py" for name in ("test_clip.py", "test_conditions.py")
}


def unit_of_work(nodeid: str) -> str:
    """Return what is run in one process: a file, whose tests share fixtures; of slow ones the tests of one backend."""
    file, _, test = nodeid.partition("::")
    file = SHARED_NETWORKS.get(file, file)
    backend = re.search(r"\w+\+\w+", test)
    return f"{file} {backend[0]}" if backend else file


def place(nodeid: str) -> int:
    """Return the place of a test's file in the order of the run."""
    unit = unit_of_work(nodeid)
    return next((rank for rank, start in enumerate(SLOW_FIRST) if unit.startswith(start)), len(SLOW_FIRST))


class UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]  # without type information
    """Sends each unit of work to one process."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False  # by number of tests; here the slow ones come first
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of_work(nodeid)
