"""`mmaudio worker`, `mmaudio control`, `mmaudio up`. Torch is imported only in the process that needs it."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable

import click

from jobs.settings import BrokerUnknownError, Settings, load_settings

BYTE_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>([kmgt]i?)?b?)", re.IGNORECASE)


def _start_logging(settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("celery", "kombu", "botocore", "boto3", "s3transfer", "urllib3", "httpx", "alembic"):
        logging.getLogger(chatty).setLevel("WARNING")


def _say(line: str) -> None:
    click.echo(f"mmaudio: {line}", err=True)


class ByteSize(click.ParamType):
    """A number of bytes, or of KiB, MiB, GiB, TiB."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = BYTE_SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"got {value!r}; give bytes, or a number with KiB, MiB, GiB or TiB, such as 20GiB", param, ctx)
        return int(float(match["number"]) * 1024 ** ("", "k", "m", "g", "t").index(match["unit"][:1].lower()))


@click.command()
@click.option("--devices", help="auto, or a list such as cuda:0,cuda:1 or cpu:0,cpu:1.  [default: MMAUDIO_DEVICES]")
@click.option(
    "--variants", help="Variants to take jobs for, such as small_16k,large_44k_v2.  [default: MMAUDIO_VARIANTS]"
)
@click.option("--preload", help="Variants to load at once.  [default: MMAUDIO_PRELOAD, else the first]")
@click.option("--memory-budget", type=ByteSize(), help="Memory for loaded variants on each device, such as 20GiB.")
@click.option("--process-for", hidden=True, help="Run as the one process of this device (the supervisor says so).")
@click.option("--drain-after", type=click.FloatRange(min=0), metavar="SECONDS", help="Drain and end by itself then.")
def worker(
    devices: str | None,
    variants: str | None,
    preload: str | None,
    memory_budget: int | None,
    process_for: str | None,
    drain_after: float | None,
) -> None:
    """Take jobs: one process a device, kept running by this one."""
    # Its children read settings as this process does: from the environment.
    chosen_here = {
        "MMAUDIO_VARIANTS": variants,
        "MMAUDIO_PRELOAD": preload,
        "MMAUDIO_MODEL_MEMORY_BYTES": memory_budget,
    }
    os.environ.update({name: str(value) for name, value in chosen_here.items() if value is not None})
    settings = load_settings()
    _check_variants(settings)
    _start_logging(settings)
    from workers.host.devices import DeviceError, parse_devices

    if process_for is not None:
        name, _, torch_device = process_for.partition("=")
        _be_worker_process(settings, name, torch_device)
    from workers.host.supervisor import ChildSpec, CrashLoopError, Supervisor, own_command

    try:
        settings.resolved_broker_url()
        chosen = parse_devices(
            devices or settings.devices,
            cpu_threads=settings.cpu_threads,
            visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        )
    except (DeviceError, BrokerUnknownError) as exc:
        raise click.ClickException(str(exc)) from exc
    # A little longer than a child's own grace, so that it can hand back and say so.
    supervisor = Supervisor(grace_s=settings.drain_grace_s + 10, tell=_say, in_order=False)
    supervisor.install_signal_handlers()
    try:
        for device in chosen:
            command = own_command("worker", "--process-for", f"{device.name}={device.torch_device}")
            supervisor.start(ChildSpec(f"worker {device.name}", command, device.environment, may_end=True))
        supervisor.run(until=_elapsed(drain_after))
    except CrashLoopError as exc:
        raise click.ClickException(str(exc)) from exc
    finally:
        supervisor.stop()


def _elapsed(seconds: float | None) -> Callable[[], bool]:
    if seconds is None:
        return lambda: False
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline


def _check_variants(settings: Settings) -> None:
    """Say at once what would end every process of this worker again and again."""
    from mmaudio_model.variants import VARIANTS

    for setting, names, allowed in (
        ("variants", settings.variants, list(VARIANTS)),
        ("preload", settings.preload, settings.variants or list(VARIANTS)),
    ):
        for name in names:
            if name not in allowed:
                raise click.ClickException(f"{setting} names {name!r}; there are {', '.join(allowed)}.")


def _be_worker_process(settings: Settings, name: str, torch_device: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from mmaudio_model.errors import ModelError
    from workers.host.self_test import DeviceUnusableError
    from workers.host.supervisor import EXIT_DEVICE_UNUSABLE
    from workers.worker_process import run_worker_process

    try:
        status = run_worker_process(settings, device=name, torch_device=torch_device)
    except ModelError as exc:
        raise click.ClickException(str(exc)) from exc
    except DeviceUnusableError as exc:
        _say(str(exc))
        sys.exit(EXIT_DEVICE_UNUSABLE)
    except SQLAlchemyError as exc:
        reason = str(getattr(exc, "orig", exc)).strip()
        raise click.ClickException(
            f"The database does not let this worker in: {reason}. Is it running, and migrated (`mmaudio migrate`)?"
        ) from exc
    sys.stdout.flush()
    sys.exit(status)


@click.command()
def control() -> None:
    """Mend what is stuck: lost workers, lost messages, jobs that waited too long."""
    settings = load_settings()
    _start_logging(settings)
    from workers.maintenance.control import run_control

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        run_control(settings, stop)
    except BrokerUnknownError as exc:
        raise click.ClickException(str(exc)) from exc


@click.command()
def up() -> None:
    """Run everything on this machine: broker, database, API, dashboard, control, one worker a device."""
    settings = load_settings()
    _start_logging(settings)
    from workers.host.supervisor import CrashLoopError
    from workers.host.up import UpRefusedError, run_up

    # Children read the same settings; a relative folder must not depend on where they run.
    os.environ["MMAUDIO_DATA_DIR"] = str(settings.data_dir)
    try:
        run_up(settings, _say)
    except (UpRefusedError, CrashLoopError) as exc:
        raise click.ClickException(str(exc)) from exc
