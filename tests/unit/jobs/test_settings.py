"""Settings: embedded defaults, the environment, the file, and the sentence about what is not allowed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import annotated_types
import pytest

from jobs.secret_key import load_secret_key, load_secret_keys
from jobs.settings import BrokerUnknownError, Settings
from jobs.settings_errors import RENAMED, SettingsError, unknown_variables
from jobs.settings_loading import load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("MMAUDIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(**overrides: object) -> str:
    """Return the sentence with which the settings are refused."""
    with pytest.raises(SettingsError) as refused:
        load_settings(labels={"devices": "--devices"}, **overrides)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def test_the_embedded_default_is_in_the_data_folder(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/data/mmaudio.db"
    assert settings.storage_url == f"file://{tmp_path}/data/objects"
    assert settings.api_bind == "127.0.0.1:8000"
    assert not settings.require_api_key


def test_a_data_folder_may_have_any_characters(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "100 %41?#")
    assert settings.storage_url == f"file://{tmp_path}/100%20%2541%3F%23/objects"


@pytest.mark.parametrize("bind", ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "example.com:80"])
def test_beyond_loopback_keys_are_required(monkeypatch: pytest.MonkeyPatch, bind: str) -> None:
    monkeypatch.setenv("MMAUDIO_API_BIND", bind)
    settings = load_settings()
    assert settings.require_api_key
    assert not settings.listens_on_loopback


@pytest.mark.parametrize("bind", ["127.0.0.1:80", "127.0.0.2:80", "localhost:80", "[::1]:80"])
def test_on_loopback_keys_are_not_required(bind: str) -> None:
    settings = load_settings(api_bind=bind)
    assert not settings.require_api_key
    assert settings.listens_on_loopback
    assert settings.api_port == 80


def test_lists_are_separated_by_commas_and_the_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mmaudio.toml").write_text('variants = ["small_16k"]\nworker_slots = 7\n')
    assert (load_settings().variants, load_settings().worker_slots) == (["small_16k"], 7)
    monkeypatch.setenv("MMAUDIO_VARIANTS", "tiny_16k, small_16k")
    assert load_settings().variants == ["tiny_16k", "small_16k"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LEASE_S", "abc", "MMAUDIO_LEASE_S is 'abc'; give a number greater than 0, at most 86400."),
        ("LEASE_S", "nan", "MMAUDIO_LEASE_S is 'nan'; give a number greater than 0, at most 86400."),
        ("LEASE_S", "inf", "MMAUDIO_LEASE_S is 'inf'; give a number greater than 0, at most 86400."),
        ("LEASE_S", "1e300", "MMAUDIO_LEASE_S is '1e300'; give a number greater than 0, at most 86400."),
        (
            "ARTIFACT_TTL_S",
            "9" * 14,
            "MMAUDIO_ARTIFACT_TTL_S is '99999999999999'; give a whole number from 60",
        ),
        ("LEASE_S", "5", "MMAUDIO_LEASE_S is 5; give at least twice MMAUDIO_HEARTBEAT_S (4), or"),
        ("SIGNED_URL_TTL_S", "1", "MMAUDIO_SIGNED_URL_TTL_S is '1'; give a whole number from 60 to 604800."),
        ("WORKER_SLOTS", "0", "MMAUDIO_WORKER_SLOTS is '0'; give a whole number from 1 to 64."),
        ("MAX_ATTEMPTS", "", "MMAUDIO_MAX_ATTEMPTS is ''; give a whole number from 1 to 20."),
        ("TRUST_NETWORK", "maybe", "MMAUDIO_TRUST_NETWORK is 'maybe'; give true or false."),
        ("PRECISION", "fp8", "MMAUDIO_PRECISION is 'fp8'; give one of auto, fp32, bf16, fp16."),
        ("LOG_LEVEL", "LOUD", "MMAUDIO_LOG_LEVEL is 'LOUD'; give one of DEBUG, INFO, WARNING, ERROR."),
        ("S3_ENCRYPTION", "rot13", "MMAUDIO_S3_ENCRYPTION is 'rot13'; give one of (empty), AES256, aws:kms."),
        ("S3_RETRY_MODE", "never", "MMAUDIO_S3_RETRY_MODE is 'never'; give 'standard' or 'adaptive'."),
        ("INBOX_REQUEST", "rain", "MMAUDIO_INBOX_REQUEST is not JSON; give an object"),
        ("INBOX_REQUEST", "[]", "MMAUDIO_INBOX_REQUEST is []; give a JSON object such as"),
        ("INBOX_REQUEST", '{"promt": "x"}', "MMAUDIO_INBOX_REQUEST is not a valid request: promt: Extra inputs"),
        ("INBOX_REQUEST", '{"num_steps": 1e9}', "MMAUDIO_INBOX_REQUEST is not a valid request: num_steps: "),
        ("INBOX_REQUEST", '{"cfg_strength": NaN}', "MMAUDIO_INBOX_REQUEST is not a valid request: cfg_strength: "),
        ("INBOX_REQUEST", '{"video": "x"}', "MMAUDIO_INBOX_REQUEST is not a valid request: video is the file itself"),
        ("INBOX", "maybe", "MMAUDIO_INBOX is 'maybe'; give true or false."),
        (
            "S3_EVENTS_REDIS_URL",
            "secret",
            "MMAUDIO_S3_EVENTS_REDIS_URL is a value that is not shown here; give redis://",
        ),
        (
            "SECRET_KEY",
            "hunter2",
            "MMAUDIO_SECRET_KEY is a value that is not shown here; it has 7 characters, give at least 32",
        ),
        (
            "SECRET_KEY",
            "change-me-32-random-bytes-in-hex",
            "MMAUDIO_SECRET_KEY is a value that is not shown here; it is the placeholder of an example",
        ),
        (
            "S3_EVENTS_TOKEN",
            "short",
            "MMAUDIO_S3_EVENTS_TOKEN is a value that is not shown here; it has 5 characters, give at least 16",
        ),
        (
            "S3_PUBLIC_ENDPOINT_URL",
            "https://key:pw@s3.example",
            "MMAUDIO_S3_PUBLIC_ENDPOINT_URL is 'https://key:***@s3.example'; give a URL without user, password,",
        ),
        ("S3_PUBLIC_ENDPOINT_URL", "https://s3.example?x=1", "MMAUDIO_S3_PUBLIC_ENDPOINT_URL is 'https://s3.example?x"),
        ("S3_PUBLIC_ENDPOINT_URL", "s3.example", "MMAUDIO_S3_PUBLIC_ENDPOINT_URL is 's3.example'; give a URL that"),
        ("ALLOWED_HOSTS", "*", "MMAUDIO_ALLOWED_HOSTS is '*'; give host names such as sounds.example.com,"),
        ("ALLOWED_HOSTS", "https://a.example", "MMAUDIO_ALLOWED_HOSTS is 'https://a.example'; give host names such as"),
        ("ALLOWED_HOSTS", "a.*.example", "MMAUDIO_ALLOWED_HOSTS is 'a.*.example'; give host names such as"),
        ("ALLOWED_HOSTS", "a.example:x", "MMAUDIO_ALLOWED_HOSTS is 'a.example:x'; give host names such as"),
        ("LOG_LEVEL", "\udcff", "MMAUDIO_LOG_LEVEL is not valid UTF-8; give text."),
        ("DATA_DIR", "/tmp/\udcff\udcfe", "MMAUDIO_DATA_DIR is not valid UTF-8; give text."),
        (
            "VARIANTS",
            "tiny_16k,tiny_8k",
            "MMAUDIO_VARIANTS is 'tiny_16k,tiny_8k'; give names from tiny_16k,",
        ),
        ("PRELOAD", "tiny_8k", "MMAUDIO_PRELOAD is 'tiny_8k'; give names from tiny_16k,"),
        ("API_BIND", "8102", "MMAUDIO_API_BIND is '8102'; give address:port, such as 127.0.0.1:8102."),
        ("API_BIND", "localhost:99999", "MMAUDIO_API_BIND is 'localhost:99999'; give a port from 1 to 65535."),
        ("API_BIND", "::1:8000", "MMAUDIO_API_BIND is '::1:8000'; give address:port, such as 127.0.0.1:8000 or [::1]"),
        ("DEVICES", "cpu:x", "MMAUDIO_DEVICES is 'cpu:x'; give auto, or a list such as cuda:0,cuda:1 or cpu:0,cpu:1."),
        ("DEVICES", "cpu,cpu", "MMAUDIO_DEVICES is 'cpu,cpu'; give each device once."),
        ("DATABASE_URL", "postgres://u:pw@h/d", "MMAUDIO_DATABASE_URL is 'postgres://u:***@h/d'; give sqlite:////"),
        ("BROKER_URL", "redis://:pw@h:x", "MMAUDIO_BROKER_URL is 'redis://:***@h:x'; give redis://host:6379/0, or"),
        ("STORAGE_URL", "data/objects", "MMAUDIO_STORAGE_URL is 'data/objects'; give file:///absolute/folder or s3://"),
        (
            "SQS_QUEUE_URL",
            "queue",
            "MMAUDIO_SQS_QUEUE_URL is 'queue'; give a URL that begins with http:// or https://.",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"MMAUDIO_{name}", value)
    assert refusal().startswith(said)


def test_the_variant_of_the_inbox_must_be_on_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_VARIANTS", "tiny_16k")
    monkeypatch.setenv("MMAUDIO_INBOX_REQUEST", '{"variant": "small_16k"}')

    assert "the variant 'small_16k' is not on offer; give one of tiny_16k" in refusal()


def test_every_number_has_an_upper_bound() -> None:
    numbers = {name: field for name, field in Settings.model_fields.items() if field.annotation in {int, float}}

    assert len(numbers) > 30
    for name, field in numbers.items():
        assert any(isinstance(limit, annotated_types.Le) for limit in field.metadata), name


@pytest.mark.parametrize("name", ["DATA_DIR", "WEIGHTS_DIR", "SCRATCH_DIR", "FEATURE_CACHE_DIR", "INBOX_DIR"])
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_folder_is_the_default(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    expected = load_settings()
    monkeypatch.setenv(f"MMAUDIO_{name}", value)

    assert load_settings() == expected


def test_preload_must_be_among_the_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_VARIANTS", "tiny_16k")
    monkeypatch.setenv("MMAUDIO_PRELOAD", "small_16k")
    said = "MMAUDIO_PRELOAD names 'small_16k'; give names of MMAUDIO_VARIANTS, which has tiny_16k."
    assert refusal() == said


def test_a_secret_that_is_not_allowed_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_S3_EVENTS_REDIS_URL", "hunter2")
    sentence = refusal()
    assert "MMAUDIO_S3_EVENTS_REDIS_URL" in sentence
    assert "give redis://host:6379/0" in sentence
    assert "hunter2" not in sentence


def test_the_sentence_names_where_the_value_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mmaudio.toml").write_text("worker_slots = 0\n")
    assert refusal().startswith("mmaudio.toml: worker_slots is 0; give")
    monkeypatch.setenv("MMAUDIO_WORKER_SLOTS", "99")
    assert refusal().startswith("MMAUDIO_WORKER_SLOTS is '99'; give")
    monkeypatch.delenv("MMAUDIO_WORKER_SLOTS")
    (tmp_path / "mmaudio.toml").unlink()
    assert refusal(devices="gpu").startswith("--devices is 'gpu'; give")


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mmaudio.toml").write_text("worker_slot = 7\n")
    assert refusal() == (
        "mmaudio.toml: worker_slot is not a setting (did you mean worker_slots?); `mmaudio settings` lists all."
    )


@pytest.mark.parametrize("text", [b"worker_slots = ", b"= 3", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "mmaudio.toml").write_bytes(text)
    assert refusal().startswith("mmaudio.toml is not TOML (")


@pytest.mark.parametrize(("old", "new"), sorted(RENAMED.items()))
def test_a_setting_that_was_renamed_is_refused_with_its_new_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str
) -> None:
    assert new in Settings.model_fields
    (tmp_path / "mmaudio.toml").write_text(f"{old} = 90\n")
    assert refusal() == f"mmaudio.toml: {old} has been renamed; set {new} instead."
    monkeypatch.setenv(f"MMAUDIO_{old.upper()}", "90")
    assert refusal() == f"MMAUDIO_{old.upper()} has been renamed; set MMAUDIO_{new.upper()} instead."


def test_variables_that_nothing_reads_are_found() -> None:
    names = ["MMAUDIO_LEASE", "mmaudio_worker_slot", "MMAUDIO_X", "MMAUDIO_LEASE_S", "MMAUDIO_API_URL", "PATH"]
    assert unknown_variables(names, Settings.model_fields) == {
        "MMAUDIO_LEASE": "MMAUDIO_LEASE is not a setting and has no effect (did you mean MMAUDIO_LEASE_S?).",
        "mmaudio_worker_slot": "mmaudio_worker_slot is not a setting and has no effect "
        "(did you mean MMAUDIO_WORKER_SLOTS?).",
        "MMAUDIO_X": "MMAUDIO_X is not a setting and has no effect.",
    }


def test_variables_that_kubernetes_sets_for_a_service_are_left_alone() -> None:
    names = [
        "MMAUDIO_API_SERVICE_HOST",
        "MMAUDIO_API_SERVICE_PORT",
        "MMAUDIO_API_SERVICE_PORT_HTTP",
        "MMAUDIO_API_PORT",
        "MMAUDIO_API_PORT_8000_TCP",
        "MMAUDIO_API_PORT_8000_TCP_ADDR",
    ]
    assert unknown_variables(names, Settings.model_fields) == {}


def test_without_a_broker_the_message_says_what_to_do() -> None:
    with pytest.raises(BrokerUnknownError, match="mmaudio up"):
        load_settings().resolved_broker_url()


@pytest.mark.parametrize("kept", [b"", b"short", b" " * 64])
def test_a_damaged_key_is_refused_and_not_used(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(kept)
    with pytest.raises(SettingsError, match=r"secret\.key holds \d bytes, a key has at least 32; remove the file"):
        load_secret_key(load_settings(data_dir=tmp_path))


def test_a_key_that_others_could_read_is_taken_from_them(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"k" * 64)
    (tmp_path / "secret.key").chmod(0o644)
    assert load_secret_key(load_settings(data_dir=tmp_path)) == b"k" * 64
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


def test_racing_processes_agree_on_the_secret_key(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "d")
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_secret_key(settings), range(16)))
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert (tmp_path / "d" / "secret.key").stat().st_mode & 0o077 == 0


def test_signing_keys_are_rotated_in_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_SECRET_KEY", f"{'n' * 32}, {'o' * 32}")
    assert load_secret_keys(load_settings(data_dir=tmp_path)) == (b"n" * 32, (b"o" * 32,))
    for wrong, said in ((f"{'n' * 32},short", "it has 5 characters"), (",".join(["k" * 32] * 4), "give at most 3")):
        monkeypatch.setenv("MMAUDIO_SECRET_KEY", wrong)
        with pytest.raises(SettingsError, match=said):
            load_settings(data_dir=tmp_path)


@pytest.mark.parametrize(
    ("settings", "required"),
    [
        ({}, False),
        ({"api_bind": "0.0.0.0:8000"}, True),
        ({"api_bind": "0.0.0.0:8000", "trust_network": True}, False),
        ({"api_bind": "0.0.0.0:8000", "trust_network": "yes", "require_api_key": True}, True),
        ({"require_api_key": True}, True),
    ],
)
def test_keys_are_required_beyond_loopback_unless_the_operator_says_otherwise(
    settings: dict[str, Any], required: bool
) -> None:
    assert Settings(**settings).require_api_key is required
