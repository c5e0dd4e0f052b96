"""`mmaudio settings`: documents every setting, shows no secret, and generates docs/settings.md."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.settings import settings as settings_command
from jobs.cli.settings_document import SECTIONS, settings_document
from jobs.settings import Settings

DOCUMENT = Path(__file__).parents[4] / "docs" / "settings.md"
SECRETS = {
    "MMAUDIO_SECRET_KEY": "hunter2" * 5,
    "MMAUDIO_S3_EVENTS_TOKEN": "hunter2" * 5,
    "MMAUDIO_DATABASE_URL": "postgresql+psycopg://u:hunter2@host/db",
    "MMAUDIO_BROKER_URL": "redis://:hunter2@host:6379/0",
    "MMAUDIO_S3_EVENTS_REDIS_URL": "redis://:hunter2@host:6379/0",
    "MMAUDIO_S3_ENDPOINT_URL": "https://key:hunter2@s3.example",
    "MMAUDIO_SQS_QUEUE_URL": "https://key:hunter2@sqs.example/1/q",
    "MMAUDIO_SQS_ENDPOINT_URL": "https://key:hunter2@sqs.example",
    "MMAUDIO_PUBLIC_URL": "https://key:hunter2@mmaudio.example",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("MMAUDIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_secrets_and_passwords_are_masked(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(settings_command, options)

    assert result.exit_code == 0, result.output
    assert "hunter2" not in result.output
    assert "redis://:***@host:6379/0" in result.output


def test_no_password_is_in_the_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert "hunter2" not in repr(Settings()) + str(Settings())


def test_every_setting_is_shown_with_its_value_and_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_VARIANTS", "tiny_16k,small_16k")
    monkeypatch.setenv("MMAUDIO_SECRET_KEY", "hunter2" * 5)
    output = CliRunner().invoke(settings_command).output

    assert all(f"MMAUDIO_{name.upper()} = " in output for name in Settings.model_fields)
    assert all(field.description and field.description in output for field in Settings.model_fields.values())
    assert "MMAUDIO_VARIANTS = tiny_16k,small_16k\n" in output
    assert "MMAUDIO_SECRET_KEY = ***\n" in output


def test_json_has_every_setting_with_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_VARIANTS", "tiny_16k")
    rows = json.loads(CliRunner().invoke(settings_command, ["--json"]).output)

    assert set(rows) == {f"MMAUDIO_{name.upper()}" for name in Settings.model_fields}
    assert rows["MMAUDIO_VARIANTS"]["value"] == ["tiny_16k"]
    assert rows["MMAUDIO_WORKER_SLOTS"]["value"] == 8
    assert rows["MMAUDIO_SECRET_KEY"]["value"] is None


def test_the_document_is_up_to_date() -> None:
    output = CliRunner().invoke(settings_command, ["--markdown"]).output

    assert output == settings_document()
    assert DOCUMENT.read_text() == output, "run `mmaudio settings --markdown > docs/settings.md`"


def test_the_document_has_every_setting_in_a_section() -> None:
    assert set(SECTIONS) <= set(Settings.model_fields)
    assert next(iter(SECTIONS)) == next(iter(Settings.model_fields))
    assert all(f"| `MMAUDIO_{name.upper()}` |" in settings_document() for name in Settings.model_fields)
