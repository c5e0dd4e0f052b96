"""The short form of `make chaos`: whatever is killed, frozen, wiped or restarted, every accepted job ends once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chaos.__main__ import SHORT
from chaos.run import run


@pytest.mark.timeout(900)
@pytest.mark.parametrize("production", [True, False], ids=["postgresql+s3", "sqlite+folder"])
def test_no_job_is_lost_or_published_twice(production: bool, tmp_path: Path) -> None:
    plan = replace(SHORT, production=production, settle_s=600)
    told: list[str] = []
    result = run(plan, tmp_path, told.append)
    verdict = result.verdict
    assert result.ledger.trouble == []
    assert (verdict.lost, verdict.duplicated, verdict.unexpected) == ([], [], []), told
    assert verdict.accepted == verdict.submitted == plan.jobs
    assert sum(result.faults.values()) >= 5, "the run was over before it could show anything"
