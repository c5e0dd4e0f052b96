"""`mmaudio submit` of several inputs: a job for each, their results as they come, and one summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from mmaudio_client.cli.error_output import InterruptedWaitError, print_error, print_notice
from mmaudio_client.cli.exit_codes import ExitCode, exit_code_of, worst
from mmaudio_client.cli.job_inputs import JobInput
from mmaudio_client.cli.job_view import conclude, describe
from mmaudio_client.cli.progress_bar import ProgressBar
from mmaudio_client.cli.session import print_json
from mmaudio_client.client import Client
from mmaudio_client.errors import ClientError, InvalidRequestError, UnavailableError, WrongServerError
from mmaudio_client.models import Job
from mmaudio_client.submit_fields import SubmitFields


@dataclass
class _Item:
    """An input and its job. `outcome` is None until the job has ended or was refused; it stays None where an error of
    another input ended the batch before this one was submitted."""

    input: JobInput
    job: Job | None = None
    outcome: ExitCode | None = None
    shown: str = ""


class Batch:
    """Several inputs, submitted with the same request.

    Args:
        output: folder for the results.
        as_json: print each job as a line of JSON when it has ended (with `no_wait`: when it is submitted).
    """

    def __init__(
        self, client: Client, inputs: Sequence[JobInput], fields: SubmitFields, *, output: Path, as_json: bool
    ) -> None:
        self._client, self._fields, self._output, self._as_json = client, fields, output, as_json
        self._items = [_Item(one) for one in inputs]
        self._warned: set[str] = set()
        self._bar = _no_bar()
        client.on_outage = self._tell_outage

    def run(self, *, no_wait: bool) -> ExitCode:
        """Submit everything, wait for it unless `no_wait`, print a summary, and return the worst exit code."""
        try:
            with self._progress("submit"):
                for item in self._items:
                    if not self._submit(item, no_wait=no_wait):
                        break
                    self._bar.advance()
            if not no_wait:
                with self._progress("wait"):
                    self._wait()
        except KeyboardInterrupt:
            submitted = [item.job for item in self._items if item.job is not None]
            unfinished = next((job for job in submitted if not job.ended), None)
            raise InterruptedWaitError(
                f"Interrupted. Jobs that were submitted ({len(submitted)}) continue: `mmaudio list` shows them"
                + (f", `mmaudio watch {unfinished.id}` follows one." if unfinished is not None else ".")
            ) from None
        outcomes = [item.outcome for item in self._items]
        if not self._as_json:
            click.echo(_summary(outcomes, no_wait=no_wait), err=True)
        return worst(outcome for outcome in outcomes if outcome is not None)

    def _submit(self, item: _Item, *, no_wait: bool) -> bool:
        """Submit one input; return whether it makes sense to go on with the next."""
        try:
            if item.input.field == "image":
                item.job = self._client.submit(image=item.input.source, **self._fields)
            else:
                item.job = self._client.submit(video=item.input.source, **self._fields)
        except (ClientError, OSError) as exc:
            self._fail(item, exc)
            # The other inputs share all fields but the input itself.
            at_fault = set(exc.fields) if isinstance(exc, InvalidRequestError) else set()
            return not isinstance(exc, UnavailableError | WrongServerError) and at_fault <= {"video", "image"}
        if no_wait:
            print_json(item.job.raw) if self._as_json else self._echo(item.job.id)
            item.outcome = ExitCode.OK
        elif not self._as_json:
            self._echo(f"{item.input.label}: {item.job.id}", err=True)
        return True

    def _wait(self) -> None:
        items = {item.job.id: item for item in self._items if item.job is not None}
        try:
            for job in self._client.watch_all([item.job for item in items.values() if item.job is not None]):
                item = items[job.id]
                item.job = job
                if job.ended:
                    self._finish(item, job)
                    self._bar.advance()
                else:
                    self._show(item, job)
        except (UnavailableError, WrongServerError) as exc:
            for item in items.values():
                item.outcome = ExitCode.UNREACHABLE if item.outcome is None else item.outcome
            with self._bar.paused():
                print_error(exc, as_json=self._as_json)

    def _finish(self, item: _Item, job: Job) -> None:
        """Save the results of an ended job, or report why there are none."""
        saved: tuple[Path, ...] = ()
        try:
            conclude(job, quiet=True)
            name = item.input.path.name if item.input.path is not None else None
            saved = self._client.download(job, self._output, name=name)
            item.outcome = ExitCode.OK
        except (ClientError, OSError) as exc:
            self._fail(item, exc)
        if self._as_json:
            print_json({**job.raw, "saved_files": [str(path) for path in saved]})
            return
        for warning in job.warnings:
            if warning.message not in self._warned:  # many concern the model, not the input
                self._echo(f"Warning: {item.input.label}: {warning}", err=True)
                self._warned.add(warning.message)
        for path in saved:
            self._echo(str(path))

    def _show(self, item: _Item, job: Job) -> None:
        stage = str(job.stage or job.state)
        self._bar.describe(f"{item.input.label}: {describe(job)}")
        if not self._bar.visible and not self._as_json and stage != item.shown:
            self._echo(f"{item.input.label}: {stage}", err=True)
        item.shown = stage

    def _fail(self, item: _Item, error: ClientError | OSError) -> None:
        item.outcome = exit_code_of(error)
        with self._bar.paused():
            print_error(error, as_json=self._as_json, input=item.input.label)

    def _tell_outage(self, sentence: str) -> None:
        with self._bar.paused():
            print_notice("server_unavailable", sentence, as_json=self._as_json)

    def _echo(self, line: str, *, err: bool = False) -> None:
        with self._bar.paused():
            click.echo(line, err=err)

    @contextmanager
    def _progress(self, what: str) -> Iterator[None]:
        with ProgressBar(what, len(self._items), hidden=self._as_json) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = _no_bar()


def _no_bar() -> ProgressBar:
    return ProgressBar("", hidden=True)


def _summary(outcomes: Sequence[ExitCode | None], *, no_wait: bool) -> str:
    words = {
        ExitCode.OK: "submitted" if no_wait else "succeeded",
        ExitCode.FAILED: "failed",
        ExitCode.CANCELED: "canceled",
        ExitCode.REFUSED: "refused",
        ExitCode.USAGE: "unreadable",
        ExitCode.FILES: "not saved",
        ExitCode.UNREACHABLE: "unfinished (server unreachable)",
        None: "not submitted",
    }
    counts = Counter(words[outcome] for outcome in outcomes)
    return f"{len(outcomes)} inputs: " + ", ".join(f"{counts[word]} {word}" for word in words.values() if counts[word])
