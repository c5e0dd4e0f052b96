"""`mmaudio tenants` on a database of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobs.cli.tenants import tenants
from tests.databases import migrated_sqlite


@pytest.fixture(autouse=True)
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrated_sqlite(tmp_path / "mmaudio.db")
    monkeypatch.setenv("MMAUDIO_DATA_DIR", str(tmp_path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tenants, list(arguments))


def test_fields_are_set_shown_restored_and_cleared() -> None:
    result = run("set", "studio", "input_buckets=videos/studio,shared", "max-triggers=5", "weight=2.5", "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert (values["input_buckets"], values["max_triggers"], values["weight"]) == (["videos/studio", "shared"], 5, 2.5)
    assert run("set", "studio", "max_triggers=default", "output_buckets=none").exit_code == 0
    shown = run("show", "studio").stdout
    assert "max_triggers: as in the settings" in shown
    assert "output_buckets: none" in shown
    assert run("list").stdout == "studio: input_buckets=videos/studio,shared, output_buckets=none, weight=2.5\n"
    assert run("clear", "studio").exit_code == 0
    assert json.loads(run("list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_triggers", "give FIELD=VALUE"),
        ("other=1", "give FIELD=VALUE"),
        ("max_triggers=many", "give a whole number, or `default`"),
        ("max_triggers=-1", "max_triggers: got -1"),
        ("weight=0", "weight: got 0"),
        ("input_buckets=a/../b", "give bucket or bucket/prefix"),
        ("input_hosts=a b", "input_hosts"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, said: str) -> None:
    result = run("set", "studio", text)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_tenant_has_a_plain_name() -> None:
    result = run("set", "a b", "max_triggers=1")
    assert result.exit_code == 2
    assert "tenant: got 'a b'" in result.stderr


def test_show_says_that_only_the_default_tenant_has_the_places_of_the_settings() -> None:
    shown = run("show", "studio").stdout
    assert [f"{name}: none" in shown for name in ("input_buckets", "output_buckets", "input_hosts")] == [True] * 3
    assert "input_buckets: as in the settings" in run("show", "default").stdout
