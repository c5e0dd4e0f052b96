"""A run's log: one JSON object per line, and TensorBoard events if that package is installed."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path

log = logging.getLogger(__name__)

LOG = "log.jsonl"


class TrainingLog:
    """Appends to the log of a run folder and to the process's log.

    Args:
        after_step: drop entries of later steps; a resumed run repeats them.
    """

    def __init__(self, folder: Path, *, after_step: int = 0) -> None:
        _drop_later(folder / LOG, after_step)
        self._file = (folder / LOG).open("a")
        self._events = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(folder), purge_step=after_step + 1)

    def write(self, kind: str, step: int, figures: dict[str, float]) -> None:
        rounded = {name: float(f"{value:.6g}") for name, value in figures.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **rounded}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in figures.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)
        log.info("%s %d: %s", kind, step, ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    def close(self) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def read_log(folder: Path, kind: str) -> list[dict[str, float]]:
    """Return the entries of one kind, in order of writing."""
    entries = (json.loads(line) for line in (folder / LOG).read_text().splitlines())
    return [entry for entry in entries if entry["kind"] == kind]


def _drop_later(path: Path, step: int) -> None:
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    # The last line may be incomplete.
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        path.write_text("".join(kept))
