"""Every setting, once: its environment variable, its default, what it is for. Parsed once per entry point.

Nothing else in the project reads the environment. `mmaudio settings` prints this file's knowledge.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_FILE = "mmaudio.toml"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})
GIB = 1024**3
MIB = 1024**2

_CHOICES = {
    "s3_addressing_style": ("auto", "path", "virtual"),
    "s3_encryption": ("", "AES256", "aws:kms"),
}

# Read from the environment as `a,b`, not as JSON.
CommaList = Annotated[list[str], NoDecode]


class Settings(BaseSettings):
    """The configuration of one process; frozen. Durations in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="MMAUDIO_", frozen=True, extra="forbid", toml_file=CONFIG_FILE)

    data_dir: Path = Field(
        Path("./data"), description="Folder of the embedded default: database, broker file, objects."
    )
    database_url: str = Field("", description="SQLAlchemy URL. Default: SQLite in the data folder.")
    broker_url: str = Field(
        "", description="redis:// URL of Redis or Valkey. Default: the embedded Valkey of `mmaudio up`."
    )
    storage_url: str = Field(
        "", description="`file:///folder` or `s3://bucket/prefix`. Default: a folder in the data folder."
    )
    s3_endpoint_url: str | None = Field(None, description="Endpoint of an S3-compatible store; default AWS.")
    s3_region: str | None = Field(None, description="Region of the bucket, when boto3's own chain does not say.")
    s3_addressing_style: str = Field("auto", description="`auto`, `path` or `virtual`.")
    s3_encryption: str = Field("", description="`AES256` (SSE-S3), `aws:kms` (SSE-KMS) or empty: as the bucket says.")
    s3_kms_key_id: str = Field("", description="Key of SSE-KMS; empty: the account's own.")
    s3_retry_mode: Literal["standard", "adaptive"] = Field(
        "standard", description="botocore's retries: `standard`, or `adaptive` (slows down)."
    )
    s3_max_attempts: int = Field(5, ge=1, le=20, description="Tries of one call to the object store.")
    input_buckets: CommaList = Field(
        default_factory=list, description="Buckets that requests may name as s3://bucket/key, separated by commas."
    )

    output_buckets: CommaList = Field(
        default_factory=list, description="Buckets that requests may have their files delivered to, by commas."
    )

    api_bind: str = Field("127.0.0.1:8000", description="Address and port of the API.")
    api_threads: int = Field(32, ge=2, le=512, description="Threads of the API that may wait (each ?wait= holds one).")
    require_api_key: bool = Field(
        True, description="Refuse anonymous callers. On a loopback address the default is false; elsewhere true."
    )
    trust_network: bool = Field(
        False,
        description="Listen beyond loopback without keys, because a gateway in front authenticates.",
    )
    public_url: str = Field("", description="How callers reach the API, for links in answers; default: relative links.")
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="Signs links. Default: made once and kept in the data folder; must be shared by all API hosts.",
    )

    variants: CommaList = Field(
        default_factory=list,
        description="Variants offered, separated by commas; the first is the default. Default: what is present.",
    )
    weights_dir: Path | None = Field(None, description="Folder laid out like the published weights.")
    devices: str = Field("auto", description="`auto`, or a list such as `cuda:0,cuda:1` or `cpu:0,cpu:1`.")
    precision: str = Field("auto", description="`auto` (bf16 on CUDA, fp32 on CPU), `fp32`, `bf16` or `fp16`.")
    preload: CommaList = Field(
        default_factory=list, description="Variants a worker loads at its start. Default: the first that it offers."
    )
    model_memory_bytes: int = Field(
        0,
        ge=0,
        description="Memory for loaded variants on each device; the least recently used goes. Default: 70 % of the "
        "device's.",
    )
    worker_slots: int = Field(
        8,
        ge=1,
        le=64,
        description="Jobs one worker process holds at once: while one batch runs, the next ones' files are read.",
    )
    max_batch: int = Field(
        4,
        ge=1,
        le=64,
        description="Requests that may share one batch; on CUDA fewer when the memory has room for fewer. At most half "
        "of worker_slots keeps the device busy.",
    )
    feature_cache_dir: Path | None = Field(
        None, description="Folder of what the encoders gave, to be used again; default: in the data folder."
    )
    feature_cache_bytes: int = Field(
        2 * GIB, ge=0, description="Largest size of that folder; 0: nothing is kept there."
    )
    feature_ttl_s: int = Field(
        7 * 24 * 3600,
        ge=0,
        description="How long unused features stay in the object store (up to twice that); 0: they are not shared.",
    )
    cpu_threads: int = Field(0, ge=0, description="Threads of a CPU device; 0: the cores shared by the CPU devices.")
    engine_watchdog_s: float = Field(
        600, ge=0, description="A worker whose engine stands still that long while it has work is ended; 0: never."
    )
    worker_memory_bytes: int = Field(
        0,
        ge=0,
        description="A worker that uses more drains and starts afresh; 0: no limit (its GPU's memory is apart).",
    )
    drain_grace_s: float = Field(60, ge=0, description="How long a stopping worker may finish what it runs.")
    consumer_stall_s: float = Field(
        20, gt=0, description="How long messages may wait beside a free slot before a worker process starts anew."
    )
    scratch_dir: Path | None = Field(None, description="Folder for a job's temporary files; default: the system's.")

    max_upload_bytes: int = Field(2 * GIB, ge=1, description="Largest upload.")
    max_pixels: int = Field(4096 * 2304, ge=1, description="Largest picture, in pixels a frame.")
    max_source_duration_s: float = Field(3600, gt=0, description="Longest video that is read at all.")
    decode_timeout_s: float = Field(120, gt=0, description="How long reading one video may take.")
    decode_memory_bytes: int = Field(2 * GIB, ge=256 * MIB, description="Memory of the process that reads a video.")
    max_queued_per_tenant: int = Field(
        100_000, ge=1, description="Queued jobs a tenant may have; more are answered with 429."
    )

    lease_s: float = Field(12, gt=0, description="How long a silent worker keeps a job.")
    heartbeat_s: float = Field(4, gt=0, description="How often a worker renews its leases.")
    maintenance_interval_s: float = Field(1, gt=0, description="How often the control worker looks for what is stuck.")
    overdue_grace_s: float = Field(
        30, gt=0, description="How long a worker may overstay a run timeout or a cancel before the sweep ends the job."
    )
    priority_aging_s: float = Field(
        600, gt=0, description="A job that has waited so long is reached by every fourth pick, whatever its priority."
    )
    max_running_per_tenant: int = Field(
        0,
        ge=0,
        description="Jobs a tenant may have running at once; 0: no limit. `mmaudio queue limit` sets one tenant's.",
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts at a job before it fails.")
    default_run_timeout_s: int = Field(
        3600, ge=1, description="How long an attempt may run when the request does not say."
    )
    upload_ttl_s: int = Field(24 * 3600, ge=60, description="How long an upload is kept.")
    artifact_ttl_s: int = Field(7 * 24 * 3600, ge=60, description="How long artifacts are kept.")
    signed_url_ttl_s: int = Field(3600, ge=60, description="How long a link to an artifact or an upload address works.")
    s3_events_token: SecretStr = Field(
        SecretStr(""),
        description="Shared secret of whoever posts bucket events to /v1/s3-events. Unset: nobody may.",
    )
    sqs_queue_url: str = Field("", description="SQS queue with bucket events, polled by the control worker.")
    sqs_endpoint_url: str | None = Field(None, description="Endpoint of an SQS-compatible server; default AWS.")
    sqs_wait_s: int = Field(10, ge=0, le=20, description="How long one poll of SQS waits for messages.")
    sqs_visibility_s: int = Field(
        60, ge=10, le=43_200, description="How long SQS hides a message that is worked on; renewed while that lasts."
    )
    s3_events_redis_list: str = Field(
        "",
        description="Redis list that MinIO pushes bucket events to (its `access` format), read by the control worker.",
    )
    s3_events_redis_url: SecretStr = Field(
        SecretStr(""), description="redis:// URL of that list's server. Default: the broker."
    )
    trigger_jobs_per_hour: int = Field(
        20_000, ge=0, description="Jobs a trigger may make within an hour before it is paused, its events held; 0: any."
    )
    trigger_event_retention_s: int = Field(
        30 * 86_400, ge=86_400, description="How long handled bucket events are remembered, so that none counts twice."
    )
    inbox: bool | None = Field(
        None, description="Watch a folder for files to make jobs of. Default: only when the storage is a folder."
    )
    inbox_dir: Path | None = Field(None, description="That folder. Default: `inbox` in the data folder.")
    inbox_request: dict[str, Any] = Field(
        default_factory=dict,
        description='Fields of the jobs that the folder\'s files make, as JSON: {"prompt": "rain", "num_steps": 25}.',
    )
    inbox_quiet_s: float = Field(
        3, ge=0.1, description="How long a file in the folder must not have changed before it is taken."
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    access_log: bool = Field(False, description="Log method, path, status and duration of every HTTP request.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings calls it so
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    @field_validator("variants", "preload", "input_buckets", "output_buckets", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("data_dir", "weights_dir", "scratch_dir", "feature_cache_dir", "inbox_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError(f"got {value!r}, allowed are DEBUG, INFO, WARNING, ERROR")
        return value.upper()

    @field_validator("s3_addressing_style", "s3_encryption")
    @classmethod
    def _known_choice(cls, value: str, info: ValidationInfo) -> str:
        allowed = _CHOICES[str(info.field_name)]
        if value not in allowed:
            raise ValueError(f"got {value!r}, allowed are {', '.join(repr(choice) for choice in allowed)}")
        return value

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, value: str) -> str:
        if value not in {"auto", "fp32", "bf16", "fp16"}:
            raise ValueError(f"got {value!r}, allowed are auto, fp32, bf16, fp16")
        return value

    @model_validator(mode="before")
    @classmethod
    def _embedded_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        values = dict(values)
        data = Path(str(values.get("data_dir") or "./data")).expanduser().absolute()
        if not values.get("database_url"):
            values["database_url"] = f"sqlite:///{data / 'mmaudio.db'}"
        if not values.get("storage_url"):
            values["storage_url"] = f"file://{data / 'objects'}"
        if "require_api_key" not in values:
            host = str(values.get("api_bind") or "127.0.0.1").rpartition(":")[0]
            values["require_api_key"] = host not in LOOPBACK_HOSTS and bool(host)
        return values

    @model_validator(mode="after")
    def _leases_outlive_heartbeats(self) -> Self:
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least twice heartbeat_s ({self.heartbeat_s:g}), "
                "or one late heartbeat loses a job"
            )
        return self

    @property
    def api_host(self) -> str:
        return self.api_bind.rpartition(":")[0]

    @property
    def api_port(self) -> int:
        return int(self.api_bind.rpartition(":")[2])

    @property
    def listens_on_loopback(self) -> bool:
        return self.api_host in LOOPBACK_HOSTS

    @property
    def broker_url_file(self) -> Path:
        """Where `mmaudio up` writes the URL of the embedded broker, for commands started beside it."""
        return self.data_dir / "broker.url"

    @property
    def watched_folder(self) -> Path | None:
        """The folder whose files become jobs; None where none is watched."""
        watched = self.inbox if self.inbox is not None else self.storage_url.startswith("file:")
        return (self.inbox_dir or self.data_dir / "inbox") if watched else None

    def resolved_broker_url(self) -> str:
        """Return the broker's URL: the setting, or that of the running embedded Valkey.

        Raises:
            BrokerUnknownError: neither is there.
        """
        if self.broker_url:
            return self.broker_url
        try:
            return self.broker_url_file.read_text().strip()
        except FileNotFoundError as exc:
            raise BrokerUnknownError(
                f"No broker: MMAUDIO_BROKER_URL is not set and no `mmaudio up` runs on {self.data_dir}. "
                "Set it (redis://host:6379/0) or start `mmaudio up`."
            ) from exc


class BrokerUnknownError(RuntimeError):
    """Raised when a process needs the broker and nothing says where it is."""


def load_settings(**overrides: object) -> Settings:
    """Parse environment and `mmaudio.toml`; the one place where an entry point does so.

    Raises:
        pydantic.ValidationError: a value is not allowed, or a name under `MMAUDIO_` in the file is unknown.
    """
    return Settings(**overrides)  # type: ignore[arg-type]


def load_secret_key(settings: Settings) -> bytes:
    """Return the key that signs links; the embedded default makes one on first use and keeps it (mode 0600)."""
    given = settings.secret_key.get_secret_value()
    if given:
        return given.encode()
    path = settings.data_dir / "secret.key"
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written whole under another name, then linked: nobody reads half a key, and the first process wins.
        descriptor, draft = tempfile.mkstemp(dir=settings.data_dir, prefix=".secret-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        Path(draft).unlink()
    return path.read_bytes()
