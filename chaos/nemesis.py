"""Injects faults in a seeded random order, one or several at a time, and remembers when each happened."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chaos.faults.catalog import Fault, Part
from chaos.faults.target import Target

# A part that was just repaired may still be unreachable for so long: a server replays its log.
REPAIRED_AFTER_S = 10.0


@dataclass
class _Injection:
    fault: Fault
    began: float
    ended: float | None = None


@dataclass
class Nemesis:
    """Injects one batch of faults after another; each ends with its part repaired.

    Attributes:
        faults: those to inject.
        interval_s: mean time between two batches.
        log: receives one line per fault.
        rounds: injects every fault so often; 0: until `stop`.
        together: how many faults, of different parts, happen at the same time.
        injected: how often each fault was injected.
        failure: why `run` has ended before its time.
    """

    target: Target
    faults: Sequence[Fault]
    seed: int
    interval_s: float
    log: Callable[[str], None]
    rounds: int = 0
    together: int = 1
    injected: Counter[str] = field(default_factory=Counter)
    failure: Exception | None = None
    _history: list[_Injection] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Inject faults; runs in a thread of its own. Every round injects every fault once, in random order."""
        try:
            self._inject_all()
        except Exception as exc:  # the thread's boundary
            self.failure = exc

    def _inject_all(self) -> None:
        rng = random.Random(self.seed)
        began = time.monotonic()
        for _ in range(self.rounds) if self.rounds else itertools.count():
            for batch in batches(rng.sample(self.faults, k=len(self.faults)), self.together):
                if self._stop.wait(rng.uniform(0.5, 1.5) * self.interval_s):
                    return
                # Daemons: an interrupted run does not wait for the end of an outage.
                running = [
                    threading.Thread(target=self._inject, args=(fault, random.Random(rng.random()), began), daemon=True)
                    for fault in batch
                ]
                for thread in running:
                    thread.start()
                for thread in running:
                    thread.join()
                if self.failure is not None:
                    return

    def _inject(self, fault: Fault, rng: random.Random, began: float) -> None:
        injection = _Injection(fault, time.monotonic())
        self._history.append(injection)
        try:
            detail = fault.inject(self.target, rng)
        except Exception as exc:  # the thread's boundary
            self.failure = exc
            return
        injection.ended = time.monotonic()
        self.injected[fault.name] += 1
        took_s = injection.ended - injection.began
        self.log(f"{injection.began - began:6.1f} s  {fault.name}: {detail} (took {took_s:.1f} s)")

    def was_broken(self, part: Part, since: float) -> bool:
        """Return whether a fault of a part has happened since a time (`time.monotonic`), or happens now."""
        return any(
            part in injection.fault.breaks and (injection.ended is None or injection.ended + REPAIRED_AFTER_S > since)
            for injection in list(self._history)
        )

    def stop(self) -> None:
        """End `run` before the next batch."""
        self._stop.set()


def batches(faults: Sequence[Fault], together: int) -> list[list[Fault]]:
    """Divide faults into batches of at most `together` faults, none of which disturbs another; keep their order."""
    waiting, divided = list(faults), []
    while waiting:
        batch: list[Fault] = []
        for fault in list(waiting):
            if len(batch) < together and not any(fault.disturbs(other) for other in batch):
                batch.append(fault)
                waiting.remove(fault)
        divided.append(batch)
    return divided
