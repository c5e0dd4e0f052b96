"""A progress bar on a terminal's standard error output, which is taken away at its end; elsewhere there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from tqdm import tqdm

from mmaudio_client.cli.text_width import one_line

ALL_DONE = 1.0
_COUNTS = "{desc} {bar:30} {n_fmt}/{total_fmt} {elapsed} {postfix}"
_SHARE = "{desc:<26} {bar:30} {percentage:3.0f}% {elapsed}"
_TEXT = "{desc} {elapsed}"


class ProgressBar:
    """A bar that counts things up to `total`, or only shows a text and the time where the total is not known.

    Args:
        text: what stands before the bar.
        total: how many there are; `ALL_DONE`: the bar shows a share.
        counts_bytes: show numbers as sizes.
        hidden: show nothing.
    """

    def __init__(
        self, text: str, total: float | None = None, *, counts_bytes: bool = False, hidden: bool = False
    ) -> None:
        self._bar: Any = None
        # Not `FORCE_COLOR` and the like: a file must not get a bar.
        if hidden or not sys.stderr.isatty():
            return
        tqdm.monitor_interval = 0  # no thread for it: every update is drawn at once
        self._bar = tqdm(
            total=total,
            desc=one_line(text),
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            mininterval=0,
            ascii=" ━",
            unit_scale=counts_bytes,
            unit_divisor=1000,
            bar_format=_TEXT if total is None else _SHARE if total == ALL_DONE else _COUNTS,
        )

    @property
    def visible(self) -> bool:
        return self._bar is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more; what was described is over."""
        if self._bar is not None:
            self._bar.n += amount
            self.describe("")

    def show(self, done: float, text: str | None = None) -> None:
        """Show how much is done in all, and another text before the bar."""
        if self._bar is not None:
            self._bar.n = done
            if text is not None:
                self._bar.set_description_str(one_line(text), refresh=False)
            self._bar.refresh()

    def describe(self, text: str) -> None:
        """Show what is being done now, behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(one_line(text), refresh=False)
            self._bar.refresh()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar off the terminal while something else is printed."""
        if self._bar is None:
            yield
            return
        self._bar.clear()
        try:
            yield
        finally:
            self._bar.refresh()
