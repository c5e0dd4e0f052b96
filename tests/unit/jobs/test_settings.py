"""Settings: embedded defaults, the environment, the file, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from jobs.cli.settings import settings as settings_command
from jobs.settings import BrokerUnknownError, Settings, load_secret_key, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("MMAUDIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_embedded_default_lives_in_the_data_folder(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/data/mmaudio.db"
    assert settings.storage_url == f"file://{tmp_path}/data/objects"
    assert settings.api_bind == "127.0.0.1:8000"
    assert not settings.require_api_key


def test_beyond_loopback_keys_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_API_BIND", "0.0.0.0:80")
    settings = load_settings()
    assert settings.require_api_key
    assert not settings.listens_on_loopback


def test_lists_are_separated_by_commas_and_the_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mmaudio.toml").write_text('variants = ["small_16k"]\nworker_slots = 7\n')
    assert (load_settings().variants, load_settings().worker_slots) == (["small_16k"], 7)
    monkeypatch.setenv("MMAUDIO_VARIANTS", "tiny_16k, small_16k")
    assert load_settings().variants == ["tiny_16k", "small_16k"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("LEASE_S", "5"), ("PRECISION", "fp8"), ("LOG_LEVEL", "LOUD"), ("WORKER_SLOTS", "0"), ("MAX_ATTEMPTS", "x")],
)
def test_values_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"MMAUDIO_{name}", value)
    with pytest.raises(ValidationError):
        load_settings()


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mmaudio.toml").write_text("worker_slot = 7\n")
    with pytest.raises(ValidationError, match="worker_slot"):
        load_settings()


def test_without_a_broker_the_message_says_what_to_do() -> None:
    with pytest.raises(BrokerUnknownError, match="mmaudio up"):
        load_settings().resolved_broker_url()


def test_racing_processes_agree_on_the_secret_key(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "d")
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_secret_key(settings), range(16)))
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert (tmp_path / "d" / "secret.key").stat().st_mode & 0o077 == 0


def test_every_setting_is_documented_and_secrets_stay_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(field.description for field in Settings.model_fields.values())
    monkeypatch.setenv("MMAUDIO_SECRET_KEY", "hunter2")
    out = CliRunner().invoke(settings_command).output
    assert "MMAUDIO_SECRET_KEY = (set)" in out
    assert "hunter2" not in out
