"""The log of a job, which Replicate's client reads for the progress."""

from __future__ import annotations

from itertools import pairwise

import pytest
from replicate.prediction import Prediction

from jobs.compat.job_log import JobProgress, log_of, progress_line
from jobs.lifecycle import Stage


@pytest.mark.parametrize(("step", "total"), [(0, 25), (1, 25), (1, 1), (50, 100), (100, 100)])
def test_the_official_client_reads_every_progress_line(step: int, total: int) -> None:
    read = Prediction.Progress.parse(progress_line(step, total))
    assert read is not None
    assert (read.current, read.total) == (step, total)
    assert read.percentage == pytest.approx(step / total, abs=0.01)


def test_the_log_only_grows_while_an_attempt_goes_on() -> None:
    moments = [JobProgress(7, 4, 1)]
    moments += [JobProgress(7, 4, 1, stage) for stage in (Stage.FETCH, Stage.DECODE, Stage.ENCODE)]
    moments += [JobProgress(7, 4, 1, Stage.SAMPLE, step) for step in (None, 1, 2, 4)]
    moments += [JobProgress(7, 4, 1, stage) for stage in (Stage.VOCODE, Stage.UPLOAD)]
    moments += [JobProgress(7, 4, 1, done=True, ending=("Warning: short.",))]
    logs = [log_of(moment) for moment in moments]

    for before, after in pairwise(logs):
        assert after.startswith(before)
    assert logs[-1].splitlines()[0] == "Using seed: 7"
    assert logs[-1].splitlines()[-1] == "Warning: short."


def test_nothing_is_logged_before_the_first_attempt_and_a_later_one_begins_anew() -> None:
    assert log_of(JobProgress(7, 4, 0)) == ""
    assert log_of(JobProgress(7, 4, 2, Stage.FETCH)) == "Using seed: 7\nAttempt 2\nStage: fetch\n"


def test_the_log_of_the_most_steps_leaves_room_in_a_webhook() -> None:
    assert len(log_of(JobProgress(2**63 - 1, 100, 3, done=True)).encode()) < 8000
