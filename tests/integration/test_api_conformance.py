"""What the API answers is what its OpenAPI document says, for thousands of generated requests."""

from __future__ import annotations

from pathlib import Path

from tests.api_conformance import conformance_server, run_schemathesis


def test_every_rule_of_every_schema_kept_and_broken(tmp_path: Path) -> None:
    with conformance_server(tmp_path) as url:
        outcome = run_schemathesis(url, max_examples=1, phases="coverage")
    assert outcome.passed, outcome.output[-20_000:]
    assert outcome.generated > 4000
