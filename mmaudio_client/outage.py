"""Outages: what is known about the server, and who is told, once for each outage, that it does not answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from threading import Lock

log = logging.getLogger(__name__)

DEFAULT_PATIENCE_S = 180.0
"""Longest outage that a call waits out."""
MAX_PATIENCE_S = 30 * 86_400.0


def checked_patience(patience_s: float) -> float:
    """Return a patience in seconds.

    Raises:
        ValueError: it is negative, not finite or longer than 30 days.
    """
    if not (math.isfinite(patience_s) and 0 <= patience_s <= MAX_PATIENCE_S):
        raise ValueError(f"Got patience_s={patience_s!r}; give 0 (do not wait) to {MAX_PATIENCE_S:g} seconds.")
    return float(patience_s)


class ServerContact:
    """What the calls of one client know about its server; shared by threads.

    Attributes:
        answered: it has answered at least once, so that its address is right.
        connected: a call has had a connection, and lost it before the answer.
        served: it has given an answer of an mmaudio server at least once.
        on_outage: called with one sentence when an outage begins; None: the sentence is logged as a warning.
    """

    def __init__(self, on_outage: Callable[[str], None] | None = None) -> None:
        self.answered = self.connected = self.served = False
        self.on_outage = on_outage
        self._away = False
        self._lock = Lock()

    def lost(self, reason: str, limit_s: float) -> None:
        """Tell that the server does not answer, unless that was told since its last answer."""
        with self._lock:
            told, self._away = self._away, True
        if told:
            return
        sentence = f"{reason.rstrip('.')}. Trying again for up to {limit_s:.0f} s; submitted jobs continue."
        if self.on_outage is not None:
            self.on_outage(sentence)
        else:
            log.warning("%s", sentence)

    def heard(self) -> None:
        """Record an answer of the server."""
        with self._lock:
            returned, self._away = self._away, False
        self.answered = self.served = True
        if returned:
            log.info("The server answers again.")
