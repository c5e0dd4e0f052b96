"""`mmaudio up`: everything on this machine, as child processes under one supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jobs.listen_address import refuse_open_network, reserved_port
from jobs.settings import Settings
from jobs.settings_values import mask_url
from jobs.writable_folders import check_folders
from workers.host.local_api import LocalApi, base_url
from workers.host.preflight import check_weights, chosen_devices
from workers.host.supervisor import ChildSpec, CrashLoopError, Supervisor, child_environment, own_command
from workers.host.valkey import EmbeddedValkey, prepare_valkey, write_private

READY_WITHIN_S = 120.0
WORKER_EXTRA_GRACE_S = 15.0
PROGRESS_EVERY_S = 5.0


class UpRefusedError(Exception):
    """Raised when the platform cannot be started; the message says why."""


@contextlib.contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process. The kernel releases it when the process exits, however it exits.

    Raises:
        UpRefusedError: another `mmaudio up` holds it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UpRefusedError(
                f"`mmaudio up` already runs on {data_dir} (process {holder}); stop it first, or choose another folder "
                "with --data-dir and another port with --port."
            ) from exc
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def run_up(settings: Settings, tell: Callable[[str], None]) -> None:
    """Run the platform until a stop signal comes.

    Raises:
        SettingsError: a setting cannot be used on this machine; nothing was started.
        PortTakenError, UpRefusedError: the platform cannot be started.
        ChildConfigurationError, CrashLoopError: a part of it cannot be kept running.
    """
    devices = chosen_devices(settings)
    check_weights(settings)
    refuse_open_network(settings)
    check_folders(settings, "up")
    with data_dir_lock(settings.data_dir), reserved_port(settings):
        tell(f"starting on {base_url(settings)}, data in {settings.data_dir} (Ctrl-C stops)")
        with contextlib.ExitStack() as cleanup:
            _Startup(settings, tell, cleanup).run([device.name for device in devices])
    tell("stopped")


class _Startup:
    """One run of the platform: starts the parts in order, waits until they are ready, and for the end."""

    def __init__(self, settings: Settings, tell: Callable[[str], None], cleanup: contextlib.ExitStack) -> None:
        self._settings, self._tell = settings, tell
        cleanup.callback(settings.broker_url_file.unlink, missing_ok=True)
        self._api = LocalApi(settings)
        cleanup.callback(self._api.close)
        # What is closed after the children have stopped.
        self._after_stop = cleanup.enter_context(contextlib.ExitStack())
        self._supervisor = Supervisor(
            grace_s=settings.drain_grace_s + WORKER_EXTRA_GRACE_S, tell=tell, stopping_report=self._report_stopping
        )
        self._supervisor.install_signal_handlers()
        cleanup.callback(self._supervisor.stop)

    def run(self, devices: list[str]) -> None:
        steps = (
            self._start_broker,
            self._migrate,
            self._make_first_key,
            lambda: self._start_parts(devices),
            self._wait_until_ready,
        )
        for step in steps:
            step()
            if self._supervisor.stopping:
                break
        self._supervisor.run()
        self._tell("stopping")

    def _start_broker(self) -> None:
        if self._settings.broker_url:
            self._check_broker()
            return
        self._tell("starting the embedded Valkey")
        valkey = prepare_valkey(self._settings.data_dir)
        self._after_stop.callback(valkey.close)
        self._supervisor.start(valkey.spec)
        self._wait_for_broker(valkey)
        write_private(self._settings.broker_url_file, valkey.url)

    def _check_broker(self) -> None:
        # Imported only here, as in `_wait_for_broker`.
        from jobs.queue import Broker, BrokerUnavailableError

        url = self._settings.broker_url
        broker = Broker(url)
        try:
            broker.check()
        except BrokerUnavailableError as exc:
            raise UpRefusedError(
                f"MMAUDIO_BROKER_URL is {mask_url(url)!r}, which does not answer ({str(exc.__cause__).rstrip('.')}); "
                "start that server, or unset the variable to use the embedded Valkey."
            ) from exc
        finally:
            broker.close()

    def _wait_for_broker(self, valkey: EmbeddedValkey) -> None:
        """Wait until the server answers; it may first read a long append-only file."""
        # Imported only here: what `up` is doing must be on the screen soon after it was called.
        import redis
        from redis.exceptions import RedisError

        client = redis.Redis.from_url(valkey.url)
        progress = _Progress(self._tell, lambda: "waiting for Valkey to read its files", first_after_s=PROGRESS_EVERY_S)

        def answers() -> bool:
            progress.report()
            with contextlib.suppress(RedisError):
                return bool(client.ping())
            return False

        try:
            self._supervisor.run(until=answers)
        except CrashLoopError as exc:
            folder = valkey.log_file.parent
            raise UpRefusedError(
                f"The embedded Valkey does not start: {valkey.last_log_line() or exc}. If its files are broken, remove "
                f"{folder}: it holds no jobs, they are in the database."
            ) from exc
        finally:
            client.close()

    def _migrate(self) -> None:
        self._tell("migrating the database")
        done = subprocess.run(
            own_command("migrate"),
            capture_output=True,
            text=True,
            check=False,
            env=child_environment(os.environ),
            start_new_session=True,  # Ctrl-C in the terminal must not break it off
        )
        if done.returncode == 0:
            return
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UpRefusedError(lines[-1].removeprefix("Error: "))

    def _make_first_key(self) -> None:
        """Make and show the first admin key where requests need one and there is none."""
        if not self._settings.require_api_key:
            return
        # Imported only here, as in `_wait_for_broker`.
        from jobs.api_keys.first_key import FILE_NAME, make_first_key
        from jobs.db.database import Database

        db = Database(self._settings.database_url)
        try:
            key = make_first_key(db, self._settings.data_dir, actor="mmaudio up")
        except OSError as exc:
            raise UpRefusedError(
                f"The first admin key cannot be kept in {self._settings.data_dir / FILE_NAME} ({exc.strerror})."
            ) from exc
        finally:
            db.close()
        if key is not None:
            path = self._settings.data_dir / FILE_NAME
            self._tell(f"requests need an API key; the first admin key, shown only now and kept in {path}: {key}")

    def _start_parts(self, devices: list[str]) -> None:
        self._tell(f"starting the API, the control worker and a worker on {', '.join(devices)}")
        for name, arguments in (
            ("api", ["api", "--under-up"]),
            ("control", ["control"]),
            ("worker", ["worker", "--under-up"]),
        ):
            # A worker that was drained through the API does not come back; the other parts go on.
            self._supervisor.start(ChildSpec(name, own_command(*arguments), may_end=name == "worker"))

    def _wait_until_ready(self) -> None:
        """Wait until the API is ready and a worker takes jobs, and say so."""
        deadline = time.monotonic() + READY_WITHIN_S
        progress = _Progress(self._tell, self._api.startup_state)
        ready = False

        def done() -> bool:
            nonlocal ready
            ready = self._api.is_ready()
            if not ready:
                progress.report()
            return ready or time.monotonic() > deadline

        self._supervisor.run(until=done)
        if ready:
            self._tell(
                f"ready: {base_url(self._settings)} (data in {self._settings.data_dir}; Ctrl-C stops everything)"
            )
        elif not self._supervisor.stopping:
            self._tell(f"not ready after {READY_WITHIN_S:g} s, still waiting: {self._api.startup_state()}")

    def _report_stopping(self, names: list[str], seconds_left: float) -> None:
        if "worker" not in names:
            self._tell(f"waiting for {', '.join(names)} to stop, at most {seconds_left:.0f} s")
            return
        count = self._api.running_job_count()
        if count == 0:
            self._tell("waiting for the worker to stop")
            return
        jobs = "running jobs" if count is None else f"{count} running {'job' if count == 1 else 'jobs'}"
        left_s = max(0.0, seconds_left - WORKER_EXTRA_GRACE_S)
        self._tell(f"waiting at most {left_s:.0f} s for {jobs} to finish; Ctrl-C again returns them to the queue")


class _Progress:
    """Tells a state when it changes, and now and then while it does not.

    Args:
        first_after_s: tell nothing of a wait that is shorter.
    """

    def __init__(self, tell: Callable[[str], None], state: Callable[[], str], *, first_after_s: float = 0.0) -> None:
        self._tell, self._state, self._first_after_s = tell, state, first_after_s
        self._began = self._told_at = time.monotonic()
        self._told = ""

    def report(self) -> None:
        now, state = time.monotonic(), self._state()
        if now - self._began < self._first_after_s:
            return
        if state == self._told and now - self._told_at < PROGRESS_EVERY_S:
            return
        waited = f" ({now - self._began:.0f} s)" if state == self._told else ""
        self._tell(f"{state}{waited}")
        self._told, self._told_at = state, now
