"""Says once, in the log and in a text file, why each file of the inbox that is not taken is not taken."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from jobs.log_lines import printable
from jobs.private_files import make_shared_folder
from workers.event_sources.inbox_folder import REFUSED, write_text

log = logging.getLogger(__name__)

LIST = "not-taken.txt"
LOGGED_AT_ONCE = 20


class UntakenFiles:
    """The files that lie in the inbox without becoming jobs."""

    def __init__(self, folder: Path) -> None:
        self._list = folder / REFUSED / LIST
        self._reported: dict[str, str] = {}
        self._listed: dict[str, str] | None = None

    def report(self, untaken: Mapping[str, str]) -> None:
        """Log what is new, and rewrite the list when it has changed.

        Args:
            untaken: the reason by path.
        """
        new = [path for path, reason in untaken.items() if self._reported.get(path) != reason]
        for path in new[:LOGGED_AT_ONCE]:
            log.warning("inbox: %s is not taken: %s", printable(path), untaken[path])
        if len(new) > LOGGED_AT_ONCE:
            log.warning("inbox: %d more files are not taken; see %s", len(new) - LOGGED_AT_ONCE, self._list)
        self._reported = dict(untaken)
        if self._listed != self._reported and (self._reported or self._list.exists()):
            self._write()

    def _write(self) -> None:
        self._listed = dict(self._reported)
        lines = (f"{printable(path)}: {reason}\n" for path, reason in sorted(self._reported.items()))
        try:
            if self._reported:
                make_shared_folder(self._list.parent)
                write_text(self._list, "".join(lines))
            else:
                self._list.unlink(missing_ok=True)
        except OSError as exc:  # the log has said it
            log.warning("inbox: could not write %s: %s", self._list, exc.strerror)
