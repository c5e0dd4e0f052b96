"""Every setting, once: its environment variable, its default, what it is for. `docs/settings.md` is generated from it.

`jobs.settings_loading` parses them, once per entry point; nothing else in the project reads the environment. The file
is long because it is one list.
"""

from __future__ import annotations

from collections.abc import Callable
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

from jobs import settings_values as values_of
from jobs.variants import VARIANTS

CONFIG_FILE = "mmaudio.toml"
GIB = 1024**3
MIB = 1024**2
# Limits of what is accepted; larger values overflow dates and SQL columns.
PIB = 1024**5
DAY_S = 86_400
CENTURY_S = 36_525 * DAY_S

_CHOICES = {
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "s3_addressing_style": ("auto", "path", "virtual"),
    "s3_encryption": ("", "AES256", "aws:kms"),
}
_CHECKS: dict[str, Callable[[str], object]] = {
    "api_bind": values_of.parse_bind,
    "broker_url": values_of.check_redis_url,
    "database_url": values_of.check_database_url,
    "devices": values_of.check_devices,
    "public_url": values_of.check_http_url,
    "s3_endpoint_url": values_of.check_http_url,
    "s3_public_endpoint_url": values_of.check_public_http_url,
    "sqs_endpoint_url": values_of.check_http_url,
    "sqs_queue_url": values_of.check_http_url,
    "storage_url": values_of.check_storage_url,
}
# Characters that a secret has at least: the key signs offline, where guesses cost nothing.
_SECRETS = {"secret_key": 32, "s3_events_token": 16}
MAX_SECRET_KEYS = 3

_PATHS = ("data_dir", "weights_dir", "scratch_dir", "feature_cache_dir", "inbox_dir", "outbox", "outbound_ca_file")

# What pydantic reads as true.
_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})

_LISTS = (
    "variants",
    "preload",
    "input_buckets",
    "output_buckets",
    "allowed_hosts",
    "input_hosts",
    "outbound_allowed_networks",
)
# Read from the environment as `a,b`, not as JSON.
CommaList = Annotated[list[str], NoDecode]


class Settings(BaseSettings):
    """The configuration of one process; frozen. Durations in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="MMAUDIO_", frozen=True, extra="forbid", toml_file=CONFIG_FILE, allow_inf_nan=False
    )

    data_dir: Path = Field(
        Path("./data"), description="Folder of the embedded defaults: database, broker files, stored objects."
    )
    # Left out of `repr` where they may hold a password.
    database_url: str = Field(
        "",
        repr=False,
        description="SQLAlchemy URL, such as `postgresql+psycopg://user:password@host/db`. "
        "Default: SQLite in the data folder.",
    )
    broker_url: str = Field(
        "", repr=False, description="`redis://` URL of Redis or Valkey. Default: the embedded Valkey of `mmaudio up`."
    )
    storage_url: str = Field(
        "", description="`file:///folder` or `s3://bucket/prefix`. Default: a folder in the data folder."
    )
    s3_endpoint_url: str | None = Field(
        None, repr=False, description="Endpoint of an S3-compatible store. Default: AWS."
    )
    s3_public_endpoint_url: str | None = Field(
        None,
        description="Endpoint of the store as callers and browsers reach it, for signed URLs of uploads and downloads. "
        "Default: `s3_endpoint_url`.",
    )
    s3_region: str | None = Field(None, description="Region of the bucket. Default: as boto3 finds it.")
    s3_addressing_style: str = Field("auto", description="How a bucket is addressed: `auto`, `path` or `virtual`.")
    s3_encryption: str = Field(
        "",
        description="Encryption of stored objects: `AES256` (SSE-S3), `aws:kms` (SSE-KMS) or empty for the bucket's "
        "default.",
    )
    s3_kms_key_id: str = Field("", description="KMS key for SSE-KMS. Default: the account's default key.")
    s3_retry_mode: Literal["standard", "adaptive"] = Field(
        "standard", description="Retry mode of botocore: `standard`, or `adaptive`, which also limits the request rate."
    )
    s3_max_attempts: int = Field(5, ge=1, le=20, description="Attempts per request to the object store.")
    input_buckets: CommaList = Field(
        default_factory=list,
        description="Buckets, or folders in them (`bucket/prefix`), separated by commas, that requests of the tenant "
        "`default` may read from with `s3://bucket/key`. `mmaudio tenants set` names those of others.",
    )
    output_buckets: CommaList = Field(
        default_factory=list,
        description="Buckets, or folders in them, separated by commas, that requests of the tenant `default` may "
        "deliver results to.",
    )
    input_hosts: CommaList = Field(
        default_factory=list,
        description="Hosts, separated by commas, that requests of the tenant `default` may name as input with an "
        "`https://` URL, such as `cdn.example.com,*.example.net`; `*` is every public host. Empty: none.",
    )
    input_fetch_timeout_s: float = Field(
        900, ge=1, le=DAY_S, description="Time limit for fetching an input from such a URL, redirects included."
    )
    outbound_allowed_networks: CommaList = Field(
        default_factory=list,
        description="Networks, separated by commas, such as `10.20.0.0/16,fd00:1::/48`, that inputs and webhooks may "
        "be in although they are not public. Whoever may create jobs can then call every server there. Empty: none.",
    )
    outbound_ca_file: Path | None = Field(
        None,
        description="File of certificates (PEM) of authorities that inputs and webhooks may use besides the public "
        "ones.",
    )

    api_bind: str = Field("127.0.0.1:8000", description="Address and port that the API listens on.")
    api_threads: int = Field(
        32, ge=2, le=512, description="Request threads of the API. Requests that wait or stream events need none."
    )
    api_waiting: int = Field(
        6000,
        ge=1,
        le=65_536,
        description="Requests that wait for jobs or stream events at once in one process. Further waits return at once "
        "with Retry-After; further streams get 503.",
    )
    api_connections: int = Field(
        8192,
        ge=64,
        le=65_536,
        description="Connections that the API holds at once, idle ones included; further ones wait. Lowered where the "
        "limit of open files is lower.",
    )
    api_idle_s: float = Field(
        75,
        ge=1,
        le=3600,
        description="Close a connection that sends no whole request header for this long, new or kept alive. Give more "
        "than a gateway in front keeps its connections.",
    )
    api_body_timeout_s: float = Field(
        10, ge=1, le=600, description="Answer 408 when the body of a request, other than an upload's, takes longer."
    )
    api_stall_s: float = Field(
        10,
        ge=1,
        le=600,
        description="Answer 408 when an upload sends nothing for this long; end a download that takes nothing for as "
        "long.",
    )
    upload_min_bytes_per_s: int = Field(
        4096, ge=1, le=GIB, description="Answer 408 to an upload that is slower than this on average."
    )
    api_database_timeout_s: float = Field(
        5,
        ge=1,
        le=600,
        description="Longest time that a request of the API waits for one statement, lock or connection of the "
        "database; then 503.",
    )
    require_api_key: bool = Field(
        True,
        description="Refuse requests without an API key. Default: false on a loopback address and with "
        "`trust_network`, else true.",
    )
    trust_network: bool = Field(
        False,
        description="Allow to listen on other than loopback addresses without API keys, because a gateway "
        "authenticates every request. The check of `allowed_hosts` stays on.",
    )
    allowed_hosts: CommaList = Field(
        default_factory=list,
        description="Host names, separated by commas, by which callers reach the API, such as "
        "`sounds.example.com,*.example.net`. Requests for other names are refused (DNS rebinding). Loopback names and "
        "the hosts of `api_bind` and `public_url` are always allowed.",
    )
    public_url: str = Field(
        "",
        repr=False,
        description="URL at which callers reach the API, for links in responses. Default: relative links.",
    )
    secret_key: SecretStr = Field(
        SecretStr(""),
        description="Key that signs links, at least 32 characters; all API hosts must share it. Up to three, separated "
        "by commas: the first signs, the others are still accepted. Default: generated once and kept in the data "
        "folder.",
    )

    variants: CommaList = Field(
        default_factory=list,
        description="Model variants to offer, separated by commas; the first is the default of requests. Default: all "
        "whose weights are installed.",
    )
    weights_dir: Path | None = Field(
        None, description="Folder of weights, in the published layout. Default: the Hugging Face cache."
    )
    devices: str = Field("auto", description="`auto`, or a list such as `cuda:0,cuda:1` or `cpu:0,cpu:1`.")
    precision: str = Field(
        "auto", description="Precision of the model: `auto` (bf16 on CUDA, fp32 on CPU), `fp32`, `bf16` or `fp16`."
    )
    preload: CommaList = Field(
        default_factory=list,
        description="Variants that a worker loads when it starts, separated by commas. Default: the first it offers.",
    )
    model_memory_bytes: int = Field(
        0,
        ge=0,
        le=PIB,
        description="Memory for loaded variants per device; beyond it the least recently used is unloaded. 0: 70 % of "
        "the device's memory.",
    )
    worker_slots: int = Field(
        8,
        ge=1,
        le=64,
        description="Jobs that one worker process holds at once: while one batch runs, the next one's inputs are read.",
    )
    max_batch: int = Field(
        4,
        ge=1,
        le=64,
        description="Most requests in one batch; fewer when GPU memory is short. At most half of `worker_slots` keeps "
        "the device busy.",
    )
    feature_cache_dir: Path | None = Field(
        None, description="Folder that caches encoder outputs. Default: `features` in the data folder."
    )
    feature_cache_bytes: int = Field(
        2 * GIB, ge=0, le=PIB, description="Largest size of the feature cache; 0 disables it."
    )
    feature_ttl_s: int = Field(
        7 * 24 * 3600,
        ge=0,
        le=CENTURY_S,
        description="How long unused features stay in the object store (up to twice as long); 0 disables sharing.",
    )
    cpu_threads: int = Field(
        0, ge=0, le=4096, description="Threads per CPU device. 0: all cores, divided by the CPU devices."
    )
    engine_watchdog_s: float = Field(
        600,
        ge=0,
        le=DAY_S,
        description="Kill a worker whose engine makes no progress for this long while busy; 0 disables.",
    )
    worker_memory_bytes: int = Field(
        0,
        ge=0,
        le=PIB,
        description="Drain and restart a worker process that uses more main memory than this; 0 disables.",
    )
    drain_grace_s: float = Field(
        60, ge=0, le=DAY_S, description="How long a stopping worker may finish its running jobs before it returns them."
    )
    result_wait_s: float = Field(
        900,
        ge=0,
        le=DAY_S,
        description="How long a finished result waits on the worker for a store or a database that is away, before the "
        "job goes back to the queue.",
    )
    consumer_stall_s: float = Field(
        20,
        gt=0,
        le=DAY_S,
        description="Restart a worker process that takes no message for this long while it has a free slot.",
    )
    scratch_dir: Path | None = Field(
        None, description="Folder for temporary files of running jobs. Default: the system's."
    )

    disk_reserve_bytes: int | None = Field(
        None,
        ge=0,
        le=PIB,
        description="Free space on the disks of database, object folder and temporary files below which uploads, jobs "
        "and results are refused (507); what remains is for database and retention. 0 disables. Default: 1 GiB, at "
        "most 5 % of the disk.",
    )
    max_upload_bytes: int = Field(2 * GIB, ge=1, le=PIB, description="Largest upload.")
    upload_part_bytes: int = Field(
        16 * MIB,
        ge=5 * MIB,
        le=GIB,
        description="Size of the parts of a resumable upload; larger where a bucket would have too many parts.",
    )
    max_pixels: int = Field(8192 * 4608, ge=1, le=2**31 - 1, description="Largest video frame, in pixels.")
    max_source_duration_s: float = Field(
        3600,
        gt=0,
        le=DAY_S,
        description="Longest part of a source video that is decoded for one job, from the key frame before its section "
        "to its end. The source itself may be longer.",
    )
    max_image_pixels: int = Field(120_000_000, ge=1, le=2**31 - 1, description="Largest still picture, in pixels.")
    decode_timeout_s: float = Field(
        120,
        gt=0,
        le=DAY_S,
        description="Time limit for reading a small video, or writing the result. It grows with pixels and frames; "
        "after a time-out there is one more try with twice the time.",
    )
    decode_timeout_max_s: float = Field(
        900, gt=0, le=DAY_S, description="The most that this time limit grows to. At least `decode_timeout_s`."
    )
    decode_memory_bytes: int = Field(
        3 * GIB,
        ge=256 * MIB,
        le=PIB,
        description="Memory limit of the process that reads or writes one video. Encoding 4K again needs 2 GiB, 8K "
        "with 8 bits 2.6 GiB, 8K with 10 bits 6.3 GiB.",
    )
    reencode_crf: int = Field(
        18,
        ge=0,
        le=51,
        description="Quality of pictures that have to be encoded again: 0 is best and largest, 51 worst. 18 shows no "
        "loss.",
    )
    reencode_preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
    ] = Field("veryfast", description="Speed of that encoder: slower ones make smaller files.")
    max_queued_per_tenant: int = Field(
        100_000,
        ge=1,
        le=10**9,
        description="Queued jobs that one tenant may have; beyond it requests are refused with 429.",
    )

    lease_s: float = Field(
        12,
        gt=0,
        le=DAY_S,
        description="Return a worker's jobs to the queue when its last heartbeat is older than this.",
    )
    heartbeat_s: float = Field(4, gt=0, le=DAY_S, description="Interval at which a worker renews its leases.")
    maintenance_interval_s: float = Field(
        1, gt=0, le=DAY_S, description="Interval at which the control worker rescues and dispatches jobs."
    )
    overdue_grace_s: float = Field(
        30,
        gt=0,
        le=DAY_S,
        description="How long after its run timeout or cancellation a job may run before it is ended forcibly.",
    )
    priority_aging_s: float = Field(
        600,
        gt=0,
        le=30 * DAY_S,
        description="Every fourth pick takes a job queued for longer than this, whatever its priority.",
    )
    max_running_per_tenant: int = Field(
        0,
        ge=0,
        le=10**9,
        description="Jobs that one tenant may run at once; 0 disables. `mmaudio queue limit` changes one tenant's.",
    )
    requests_per_minute_per_tenant: int = Field(
        0,
        ge=0,
        le=10**9,
        description="Requests a minute that all keys of one tenant may send together, counted in the broker; beyond it "
        "429. 0 disables. `mmaudio tenants set` changes one tenant's, also of the next five.",
    )
    requests_per_minute_per_key: int = Field(
        0, ge=0, le=10**9, description="Requests a minute that each key may send; beyond it 429. 0 disables."
    )
    max_stored_upload_bytes_per_tenant: int = Field(
        0, ge=0, le=PIB, description="Bytes of all uploads that one tenant may hold; beyond it 429. 0 disables."
    )
    max_stored_result_bytes_per_tenant: int = Field(
        0,
        ge=0,
        le=PIB,
        description="Bytes of stored results at which requests of a tenant are refused with 429. 0 disables.",
    )
    max_triggers_per_tenant: int = Field(
        1000, ge=0, le=10**9, description="Triggers that one tenant may have; beyond it 429. 0 disables."
    )
    max_waiting_per_tenant: int = Field(
        0,
        ge=0,
        le=10**9,
        description="Requests of one tenant that may wait or stream at once in each API process; beyond it 429. 0 "
        "disables.",
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts at a job before it fails.")
    default_run_timeout_s: int = Field(
        3600, ge=1, le=30 * DAY_S, description="Time limit of an attempt when the request sets none."
    )
    upload_ttl_s: int = Field(24 * 3600, ge=60, le=CENTURY_S, description="How long an upload is kept.")
    artifact_ttl_s: int = Field(7 * 24 * 3600, ge=60, le=CENTURY_S, description="How long artifacts are kept.")
    signed_url_ttl_s: int = Field(
        3600, ge=60, le=7 * DAY_S, description="How long signed upload and download URLs are valid."
    )
    s3_events_token: SecretStr = Field(
        SecretStr(""),
        description="Token required to post bucket events to `/v1/s3-events`, at least 16 characters. Empty: none are "
        "accepted.",
    )
    sqs_queue_url: str = Field(
        "", repr=False, description="SQS queue of bucket events, polled by the control worker. Empty: none."
    )
    sqs_endpoint_url: str | None = Field(
        None, repr=False, description="Endpoint of an SQS-compatible server. Default: AWS."
    )
    sqs_wait_s: int = Field(10, ge=0, le=20, description="How long one SQS poll waits for messages.")
    sqs_visibility_s: int = Field(
        60, ge=10, le=43_200, description="Visibility timeout of an SQS message; renewed while it is processed."
    )
    s3_events_redis_list: str = Field(
        "",
        description="Redis list that MinIO writes bucket events to (format `access`), read by the control worker.",
    )
    s3_events_redis_url: SecretStr = Field(
        SecretStr(""), description="`redis://` URL of the server that has the list. Default: the broker."
    )
    trigger_jobs_per_hour: int = Field(
        20_000, ge=0, le=10**9, description="Jobs that a trigger may create per hour before it is paused; 0 disables."
    )
    trigger_event_retention_s: int = Field(
        30 * 86_400,
        ge=86_400,
        le=CENTURY_S,
        description="How long handled bucket events are remembered to recognise duplicates.",
    )
    webhook_threads: int = Field(
        8,
        ge=1,
        le=64,
        description="Threads of a control process that send webhooks. One receiver occupies one at most, one host a "
        "quarter of them, those that fail together a half, and one tenant three quarters.",
    )
    webhook_timeout_s: float = Field(
        10, ge=1, le=60, description="Time limit of one try at a webhook, from the look-up of the name to the answer."
    )
    webhook_disable_after_s: int = Field(
        5 * DAY_S,
        ge=3600,
        le=90 * DAY_S,
        description="Disable a webhook endpoint that has accepted nothing for this long, though it was tried.",
    )
    webhook_retention_s: int = Field(
        30 * DAY_S, ge=3600, le=CENTURY_S, description="How long the delivery log keeps ended webhook deliveries."
    )
    inbox: bool | None = Field(
        None, description="Create jobs from files put into a folder. Default: true when the storage is a folder."
    )
    inbox_dir: Path | None = Field(None, description="That folder. Default: `inbox` in the data folder.")
    inbox_request: dict[str, Any] = Field(
        default_factory=dict,
        description='Request fields of the jobs made from that folder, as JSON: `{"prompt": "rain", "num_steps": 25}`.',
    )
    inbox_tenant: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Tenant that the jobs made from that folder belong to.",
    )
    inbox_quiet_s: float = Field(
        3, ge=0.1, le=DAY_S, description="How long a file in that folder must be unchanged before it is taken."
    )
    outbox: Path | None = Field(
        None,
        description="Folder that results of these jobs are copied to, named after their files. Default: none; the "
        "results stay in the object store only.",
    )
    log_level: str = Field("INFO", description="Level of the log: `DEBUG`, `INFO`, `WARNING` or `ERROR`.")
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

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator(*_PATHS, mode="before")
    @classmethod
    def _empty_is_default(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and not value.strip():
            return cls.model_fields[str(info.field_name)].default
        return value

    @field_validator(*_PATHS)
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        try:
            str(value).encode()
        except UnicodeEncodeError as exc:
            raise ValueError("give a path that is valid UTF-8") from exc
        return value.expanduser().absolute()

    @field_validator(*_CHOICES)
    @classmethod
    def _known_choice(cls, value: str, info: ValidationInfo) -> str:
        allowed = {choice.lower(): choice for choice in _CHOICES[str(info.field_name)]}
        if value.lower() not in allowed:
            raise ValueError(f"give one of {', '.join(choice or '(empty)' for choice in allowed.values())}")
        return allowed[value.lower()]

    @field_validator(*_CHECKS)
    @classmethod
    def _possible(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value or info.field_name in {"api_bind", "devices"}:
            _CHECKS[str(info.field_name)](value or "")
        return value

    @field_validator("s3_events_redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            values_of.check_redis_url(value.get_secret_value())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: list[str]) -> list[str]:
        return [values_of.check_host_pattern(name) for name in value]

    @field_validator("input_hosts")
    @classmethod
    def _source_hosts(cls, value: list[str]) -> list[str]:
        return [values_of.check_source_host(name) for name in value]

    @field_validator("outbound_allowed_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return [values_of.check_network(text) for text in value]

    @field_validator(*_SECRETS)
    @classmethod
    def _long_enough(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        name, text = str(info.field_name), value.get_secret_value()
        if name == "secret_key":
            values_of.check_secrets(text, min_chars=_SECRETS[name], at_most=MAX_SECRET_KEYS)
        elif text:
            values_of.check_secret(text, min_chars=_SECRETS[name])
        return value

    @field_validator("variants", "preload")
    @classmethod
    def _known_variants(cls, value: list[str]) -> list[str]:
        if not set(value) <= set(VARIANTS):
            raise ValueError(f"give names from {', '.join(VARIANTS)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _embedded_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        values = dict(values)
        data = Path(str(values.get("data_dir") or "").strip() or "./data").expanduser().absolute()
        if not values.get("database_url"):
            values["database_url"] = f"sqlite:///{data / 'mmaudio.db'}"
        if not values.get("storage_url"):
            values["storage_url"] = (data / "objects").as_uri()
        if "require_api_key" not in values:
            host = str(values.get("api_bind") or "127.0.0.1:8000").rpartition(":")[0]
            trusted = str(values.get("trust_network", "")).strip().lower() in _TRUE
            values["require_api_key"] = not values_of.is_loopback(host) and not trusted
        return values

    @model_validator(mode="after")
    def _leases_outlive_heartbeats(self) -> Self:
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(
                f"MMAUDIO_LEASE_S is {self.lease_s:g}; give at least twice MMAUDIO_HEARTBEAT_S "
                f"({self.heartbeat_s:g}), or one late heartbeat loses a job."
            )
        return self

    @model_validator(mode="after")
    def _preload_is_offered(self) -> Self:
        for name in self.preload:
            if self.variants and name not in self.variants:
                raise ValueError(
                    f"MMAUDIO_PRELOAD names {name!r}; give names of MMAUDIO_VARIANTS, which has "
                    f"{', '.join(self.variants)}."
                )
        return self

    @model_validator(mode="after")
    def _inbox_request_is_valid(self) -> Self:
        if self.inbox_request:
            # Imported only here: no other command needs it to read its settings.
            from jobs.request import inbox_request_problem

            problem = inbox_request_problem(self.inbox_request, self.variants)
            if problem is not None:
                raise ValueError(f"MMAUDIO_INBOX_REQUEST is not a valid request: {problem}.")
        return self

    @model_validator(mode="after")
    def _outbox_is_no_inbox(self) -> Self:
        inbox = self.watched_folder
        if self.outbox is not None and inbox is not None and inbox.resolve().is_relative_to(self.outbox.resolve()):
            raise ValueError(
                f"MMAUDIO_OUTBOX names {self.outbox}, which is or has the inbox {inbox}: results would become jobs "
                "again; give another folder."
            )
        return self

    @property
    def api_host(self) -> str:
        """The host that the API listens on; an IPv6 address is in brackets."""
        return self.api_bind.rpartition(":")[0]

    @property
    def api_port(self) -> int:
        return int(self.api_bind.rpartition(":")[2])

    @property
    def listens_on_loopback(self) -> bool:
        return values_of.is_loopback(self.api_host)

    @property
    def secret_keys(self) -> list[str]:
        """The keys that sign links, the one that signs first; none: they are in the data folder."""
        return values_of.split_secrets(self.secret_key.get_secret_value())

    @property
    def broker_url_file(self) -> Path:
        """Where `mmaudio up` writes the URL of the embedded broker, for commands started beside it."""
        return self.data_dir / "broker.url"

    @property
    def watched_folder(self) -> Path | None:
        """The folder whose files become jobs; None when there is none."""
        watched = self.inbox if self.inbox is not None else self.storage_url.startswith("file:")
        return (self.inbox_dir or self.data_dir / "inbox") if watched else None

    def resolved_broker_url(self) -> str:
        """Return the broker's URL: the setting, or that of the running embedded Valkey.

        Raises:
            BrokerUnknownError: neither exists.
        """
        if self.broker_url:
            return self.broker_url
        try:
            return self.broker_url_file.read_text().strip()
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise BrokerUnknownError(
                f"No broker: MMAUDIO_BROKER_URL is not set and no `mmaudio up` runs on {self.data_dir}. "
                "Set it (redis://host:6379/0) or start `mmaudio up`."
            ) from exc


class BrokerUnknownError(RuntimeError):
    """Raised when a process needs the broker and nothing says where it is."""
