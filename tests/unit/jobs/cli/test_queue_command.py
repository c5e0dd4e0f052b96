"""`mmaudio queue`: show, pause, resume and limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.queue import queue
from jobs.db.database import Database
from jobs.request import JobRequest
from jobs.service.submission import SubmitPolicy, submit_and_commit
from jobs.variants import VARIANTS
from migrations.upgrade import upgrade


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'mmaudio.db'}"
    monkeypatch.setenv("MMAUDIO_DATABASE_URL", url)
    return url


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(queue, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def test_queues_are_shown_paused_and_resumed(url: str) -> None:
    upgrade(url)
    assert run("show") == "No jobs are queued or running.\n"
    db = Database(url).of_platform()
    submit_and_commit(db.of_tenant("a"), JobRequest(prompt="rain"), policy=SubmitPolicy(variants=("tiny_16k",)))
    db.close()
    run("pause", "tiny_16k")
    run("pause", "small_16k")
    lines = run("show").splitlines()
    assert [line.split(",")[0].split(" (")[0] for line in lines] == ["small_16k: 0 queued", "tiny_16k: 1 queued"]
    assert all(line.endswith("paused") for line in lines)
    run("resume", "tiny_16k")
    assert [line.endswith("paused") for line in run("show").splitlines()] == [True, False]


def test_a_tenant_is_limited_and_gets_the_defaults_again(url: str) -> None:
    upgrade(url)
    run("limit", "a", "--running", "3", "--weight", "2")
    run("limit", "a", "--weight", "0.5")
    assert "tenant a: weight 0.5, running limit 3" in run("show")
    run("limit", "a", "--clear")
    assert "tenant a" not in run("show")


def test_invalid_arguments_are_refused_with_a_sentence(url: str) -> None:
    assert "migrated (`mmaudio migrate`)" in run("show", status=1)
    upgrade(url)
    assert "huge_96k" in run("pause", "huge_96k", status=2)
    assert "allowed is 0.001 to 1000" in run("limit", "a", "--weight", "0", status=2)
    assert "Give --running" in run("limit", "a", status=2)
    assert "Give --running" in run("limit", "a", "--weight", "1", "--clear", status=2)


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_the_help_names_the_argument_and_cuts_no_line(command: str) -> None:
    assert run(command, "--help").splitlines()[0].endswith(f"queue {command} [OPTIONS] VARIANT")
    assert not [line for line in run("--help").splitlines()[1:] if line.endswith("...")]


def test_variants_are_in_the_order_of_the_registry() -> None:
    assert ", ".join(f"'{name}'" for name in VARIANTS) in run("pause", "huge_96k", status=2)
