"""`mmaudio worker`, `mmaudio control`, `mmaudio up`. Torch is imported only in the process that needs it."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import click

from jobs.cli.configuration import ConfigurationRefused, configuration_errors, load_settings_or_exit
from jobs.cli.options import bind_option, data_dir_option, load_with_port, port_option
from jobs.log_lines import start_logging
from jobs.settings import Settings

BYTE_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>([kmgt]i?)?b?)", re.IGNORECASE)


def _start_logging(settings: Settings) -> None:
    start_logging(settings.log_level)
    for chatty in ("celery", "kombu", "botocore", "boto3", "s3transfer", "urllib3", "httpcore", "httpx", "alembic"):
        logging.getLogger(chatty).setLevel("WARNING")


def _say(line: str) -> None:
    click.echo(f"mmaudio: {line}", err=True)


def byte_size(text: str) -> int:
    """Return a number of bytes, which may be written in KiB, MiB, GiB or TiB.

    Raises:
        click.BadParameter: the text is not a size.
    """
    match = BYTE_SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"got {text!r}; give bytes, or a number with KiB, MiB, GiB or TiB, such as 20GiB")
    return int(float(match["number"]) * 1024 ** ("", "k", "m", "g", "t").index(match["unit"][:1].lower()))


devices_option = click.option(
    "--devices",
    metavar="LIST",
    help="Devices to run the model on: auto, or a list such as cuda:0,cuda:1 or cpu:0,cpu:1.  "
    "[default: MMAUDIO_DEVICES, else auto]",
)
variants_option = click.option(
    "--variants",
    metavar="LIST",
    help="Model variants to offer, such as small_16k,large_44k_v2.  [default: MMAUDIO_VARIANTS, else all installed]",
)
preload_option = click.option(
    "--preload",
    metavar="LIST",
    help="Variants to load at the start.  [default: MMAUDIO_PRELOAD, else the first variant]",
)


@click.command()
@devices_option
@variants_option
@preload_option
@click.option(
    "--memory-budget",
    "model_memory_bytes",
    type=byte_size,
    metavar="SIZE",
    help="Memory for loaded variants per device, such as 20GiB.  [default: MMAUDIO_MODEL_MEMORY_BYTES]",
)
@data_dir_option
@click.option("--process-for", hidden=True, help="Run the worker process of this device (set by the supervisor).")
@click.option("--under-up", is_flag=True, hidden=True, help="Started by `mmaudio up`, which has made the checks.")
@click.option(
    "--drain-after", type=click.FloatRange(min=0), metavar="SECONDS", help="Drain and exit after this many seconds."
)
def worker(
    devices: str | None,
    variants: str | None,
    preload: str | None,
    model_memory_bytes: int | None,
    data_dir: str | None,
    process_for: str | None,
    under_up: bool,
    drain_after: float | None,
) -> None:
    """Run jobs: one worker process per device, restarted when it crashes."""
    settings = load_settings_or_exit(
        devices=devices,
        variants=variants,
        preload=preload,
        model_memory_bytes=model_memory_bytes,
        data_dir=data_dir,
    )
    _start_logging(settings)
    if process_for is not None:
        name, _, torch_device = process_for.partition("=")
        _run_worker_process(settings, name, torch_device)
    from jobs.writable_folders import check_folders
    from workers.host.preflight import check_weights, chosen_devices
    from workers.host.supervisor import ChildSpec, Supervisor, own_command

    with configuration_errors():
        chosen = chosen_devices(settings)
        if not under_up:
            check_weights(settings)
            check_folders(settings, "worker")
        settings.resolved_broker_url()

    def report_stopping(names: list[str], seconds_left: float) -> None:
        if not under_up:
            jobs = f"the running jobs of {', '.join(names)}"
            _say(f"waiting at most {seconds_left:.0f} s for {jobs}; Ctrl-C again returns them to the queue")

    # A little longer than a child's own grace, so that it can return its jobs and say so.
    supervisor = Supervisor(
        grace_s=settings.drain_grace_s + 10, tell=_say, in_order=False, stopping_report=report_stopping
    )
    supervisor.install_signal_handlers()
    with _child_errors():
        try:
            for device in chosen:
                command = own_command("worker", "--process-for", f"{device.name}={device.torch_device}")
                supervisor.start(ChildSpec(f"worker {device.name}", command, device.environment, may_end=True))
            supervisor.run(until=_elapsed(drain_after))
        finally:
            supervisor.stop()


def _elapsed(seconds: float | None) -> Callable[[], bool]:
    if seconds is None:
        return lambda: False
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline


@contextlib.contextmanager
def _child_errors() -> Iterator[None]:
    """Turn the end of a child that is not restarted into the end of the command."""
    from workers.host.supervisor import ChildConfigurationError, CrashLoopError

    try:
        yield
    except ChildConfigurationError as exc:
        raise ConfigurationRefused(str(exc)) from exc
    except CrashLoopError as exc:
        raise click.ClickException(str(exc)) from exc


def _run_worker_process(settings: Settings, name: str, torch_device: str) -> NoReturn:
    from sqlalchemy.exc import SQLAlchemyError

    from mmaudio_model.errors import ModelError
    from workers.host.self_test import DeviceUnusableError
    from workers.host.supervisor import EXIT_DEVICE_UNUSABLE
    from workers.worker_process import run_worker_process

    try:
        with configuration_errors():
            status = run_worker_process(settings, device=name, torch_device=torch_device)
    except ModelError as exc:
        raise ConfigurationRefused(str(exc)) from exc
    except DeviceUnusableError as exc:
        _say(str(exc))
        sys.exit(EXIT_DEVICE_UNUSABLE)
    except SQLAlchemyError as exc:
        reason = str(getattr(exc, "orig", exc)).strip()
        raise click.ClickException(
            f"The database refused this worker: {reason}. Is it running, and migrated (`mmaudio migrate`)?"
        ) from exc
    sys.stdout.flush()
    sys.exit(status)


@click.command()
@data_dir_option
def control(data_dir: str | None) -> None:
    """Run maintenance: rescue jobs of lost workers, dispatch waiting jobs, delete what has expired."""
    settings = load_settings_or_exit(data_dir=data_dir)
    _start_logging(settings)
    from jobs.writable_folders import check_folders
    from workers.maintenance.control import run_control

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with configuration_errors():
        check_folders(settings, "control")
        run_control(settings, stop)


@click.command()
@bind_option
@port_option
@data_dir_option
@devices_option
@variants_option
@preload_option
def up(
    api_bind: str | None,
    port: int | None,
    data_dir: str | None,
    devices: str | None,
    variants: str | None,
    preload: str | None,
) -> None:
    """Run everything on this machine: broker, database, API, dashboard, control worker, one worker per device."""
    settings = load_with_port(
        port, api_bind=api_bind, data_dir=data_dir, devices=devices, variants=variants, preload=preload
    )
    _start_logging(settings)
    from jobs.listen_address import PortTakenError
    from workers.host.up import UpRefusedError, run_up

    with configuration_errors(), _child_errors():
        try:
            run_up(settings, _say)
        except (PortTakenError, UpRefusedError) as exc:
            raise click.ClickException(str(exc)) from exc
