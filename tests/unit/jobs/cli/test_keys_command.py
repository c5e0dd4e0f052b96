"""`mmaudio keys` on a database of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobs.api_keys.authentication import authenticate
from jobs.cli.keys import keys
from jobs.db.database import Database
from jobs.secret_key import load_secret_keys
from jobs.settings import Settings
from tests.databases import migrated_sqlite


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = migrated_sqlite(tmp_path / "mmaudio.db")
    monkeypatch.setenv("MMAUDIO_DATA_DIR", str(tmp_path))
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(keys, list(arguments))


def is_valid(url: str, text: str) -> bool:
    db = Database(url)
    try:
        return authenticate(db, text) is not None
    finally:
        db.close()


def test_a_key_is_made_listed_rotated_and_revoked(url: str) -> None:
    created = run("create", "--tenant", "studio", "--name", "ci", "--scope", "jobs:read", "--expires", "90d", "--json")
    assert created.exit_code == 0, created.output
    key = json.loads(created.stdout)
    assert is_valid(url, key["key"])
    assert (key["tenant"], key["scopes"], key["state"]) == ("studio", ["jobs:read"], "active")
    (listed,) = json.loads(run("list", "--json").stdout)
    assert listed == {name: value for name, value in key.items() if name != "key"}
    assert json.loads(run("list", "--tenant", "other", "--json").stdout) == []
    assert f"{key['id']}  {key['prefix']}..." in run("list").stdout
    rotated = run("rotate", key["id"], "--grace", "1h", "--json")
    new = json.loads(rotated.stdout)
    assert is_valid(url, key["key"])
    assert is_valid(url, new["key"])
    assert run("revoke", key["id"]).exit_code == 0
    assert not is_valid(url, key["key"])
    assert is_valid(url, new["key"])


def test_the_key_alone_is_on_standard_output(url: str) -> None:
    assert is_valid(url, run("create").stdout.strip())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--tenant", "a b"], "tenant: got 'a b'"),
        (["create", "--expires", "soon"], "such as 90d"),
        (["create", "--expires", "0"], "expires_at"),
        (["create", "--scope", "all"], "jobs:read"),
        (["revoke", "key_1"], "There is no API key key_1."),
        (["rotate", "key_1"], "There is no API key key_1."),
    ],
)
def test_what_is_wrong_is_one_sentence(url: str, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_rotated_signing_key_signs_and_the_one_before_is_accepted(tmp_path: Path, url: str) -> None:
    first, _ = load_secret_keys(Settings(data_dir=tmp_path))
    assert run("rotate-signing").exit_code == 0
    second, older = load_secret_keys(Settings(data_dir=tmp_path))
    assert second != first
    assert older == (first,)
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    assert run("rotate-signing").exit_code == 0
    assert load_secret_keys(Settings(data_dir=tmp_path))[1] == (second,)


def test_signing_keys_of_the_setting_are_not_rotated_in_the_file(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_SECRET_KEY", "k" * 32)
    result = run("rotate-signing")
    assert result.exit_code == 2
    assert "MMAUDIO_SECRET_KEY is set" in result.stderr
