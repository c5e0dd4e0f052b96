"""`mmaudio up`: starts everything, is refused a second time, restarts what crashes, stops everything."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from local_services.commands import children_of, wait_until
from tests.e2e.conftest import PATIENCE_S, RunningPlatform, is_ready, running_platform

OUR_PACKAGES = ("api", "jobs", "migrations", "mmaudio_client", "mmaudio_model", "workers")
# Modules that our libraries import by name, some of them only if they exist.
OTHER_MODULES = ("random", "celeryconfig", "sitecustomize", "numpy", "redis")


@pytest.fixture(scope="module")
def own_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform whose parts these tests kill; each test leaves it ready. Started in a folder of hostile modules."""
    folder = tmp_path_factory.mktemp("own")
    with running_platform(folder, hostile_folder(folder)) as running:
        yield running


def hostile_folder(parent: Path) -> Path:
    """Return a folder with modules of the names that the platform imports; each leaves word and fails."""
    folder = parent / "hostile"
    for name in (*OUR_PACKAGES, *OTHER_MODULES):
        (folder / name).mkdir(parents=True)
        code = f"open({str(parent / 'imported')!r}, 'a').write(__name__ + '\\n')\nraise RuntimeError(__name__)\n"
        (folder / name / "__init__.py").write_text(code)
    return folder


def output_of(platform: RunningPlatform, *arguments: str) -> tuple[int, str]:
    """Run a command beside a platform; return its exit status and what it printed."""
    process = platform.commands.start(*arguments)
    status = process.wait(PATIENCE_S)
    log = platform.commands.folder / f"{arguments[0]}-{platform.commands.started.index(process)}.log"
    return status, log.read_text()


def test_a_second_up_on_the_same_folder_is_refused_and_the_first_goes_on(platform: RunningPlatform) -> None:
    status, output = output_of(platform, "up")
    assert status == 1
    assert f"already runs on {platform.data_dir} (process {platform.pid})" in output
    assert output.count("\n") == 1
    assert is_ready(platform.url)


def test_no_other_user_of_the_machine_can_read_a_file_of_the_platform(platform: RunningPlatform) -> None:
    made = [platform.data_dir, *platform.data_dir.rglob("*")]
    modes = {str(path.relative_to(platform.data_dir)): stat.S_IMODE(path.lstat().st_mode) for path in made}

    assert {"mmaudio.db", "secret.key", "broker.url", "valkey", "objects", "up.lock"} <= modes.keys()
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


def test_the_worker_says_what_its_kernel_lacks(platform: RunningPlatform) -> None:
    (worker,) = httpx.get(f"{platform.url}/v1/workers").json()["data"]
    assert set(worker["sandbox_lacks"]) <= {"namespaces", "landlock", "seccomp"}


@pytest.mark.parametrize("command", ["up", "api"])
def test_a_second_server_on_the_same_port_is_refused(platform: RunningPlatform, tmp_path: Path, command: str) -> None:
    (tmp_path / "broker.url").write_text("redis://127.0.0.1:9/0")
    status, output = output_of(platform, command, "--data-dir", str(tmp_path))
    port = platform.url.rpartition(":")[2]
    assert status == 1
    assert output == (
        f"Error: Port {port} on 127.0.0.1 is in use by another program; stop it, or choose another port with --port or "
        "MMAUDIO_API_BIND.\n"
    )
    assert is_ready(platform.url)


def test_the_start_says_what_it_does_and_runs_nothing_from_the_current_folder(own_platform: RunningPlatform) -> None:
    done = submit_words(own_platform)
    lines = (own_platform.commands.folder / "up-0.log").read_text().splitlines()
    ours = [line.removeprefix("mmaudio: ") for line in lines if line.startswith("mmaudio: ")]

    assert done.returncode == 0, own_platform.commands.output()
    assert not (own_platform.data_dir.parent / "imported").exists()
    data = own_platform.data_dir
    assert ours[0] == f"starting on {own_platform.url}, data in {data} (Ctrl-C stops)"
    said = [
        "starting the embedded Valkey",
        "migrating the database",
        "starting the API, the control worker and a worker on cpu",
        "waiting for the API",
        f"ready: {own_platform.url} (data in {data}; Ctrl-C stops everything)",
    ]
    assert [line for line in ours if line in said] == said


@pytest.mark.parametrize(
    "part", ["valkey-server", "mmaudio_client api", "mmaudio_client control", "mmaudio_client worker"]
)
def test_a_part_that_crashes_is_restarted(own_platform: RunningPlatform, part: str) -> None:
    said_before = own_platform.commands.output().count("restarting it in")
    victim = next(child for child in psutil.Process(own_platform.pid).children() if part in " ".join(child.cmdline()))
    victim.kill()
    wait_until(
        lambda: own_platform.commands.output().count("restarting it in") > said_before,
        within_s=PATIENCE_S,
        what="a line about it",
    )

    def works_again() -> bool:
        return submit_words(own_platform).returncode == 0

    wait_until(lambda: is_ready(own_platform.url), within_s=PATIENCE_S, what="a ready platform")
    wait_until(works_again, within_s=PATIENCE_S, what="a job that succeeds")


def submit_words(platform: RunningPlatform, *options: str) -> subprocess.CompletedProcess[str]:
    process = platform.commands.start(
        "submit", "--prompt", "x", "--duration", "0.64", "--num-steps", "2", "--api-url", platform.url,
        "--output", str(platform.data_dir / "out"), *options,
    )  # fmt: skip
    return subprocess.CompletedProcess([], process.wait(PATIENCE_S))


def test_killing_up_itself_stops_its_children(own_platform: RunningPlatform) -> None:
    children = children_of(own_platform.pid)
    os.kill(own_platform.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert [child.cmdline() for child in alive] == []
    # and the folder and the port are free again
    again = own_platform.commands.start("up")
    own_platform.pid = again.pid
    deadline = time.monotonic() + PATIENCE_S
    while not is_ready(own_platform.url) and time.monotonic() < deadline:
        assert again.poll() is None, own_platform.commands.output()
        time.sleep(0.2)
    assert is_ready(own_platform.url)


def test_ctrl_c_waits_for_a_running_job_and_a_second_one_returns_it_to_the_queue(own_platform: RunningPlatform) -> None:
    children = children_of(own_platform.pid)
    assert len(children) >= 5  # valkey, api and its server process, control, worker and its device's process
    long = {"prompt": "x", "num_steps": 100, "duration_s": 30, "num_samples": 4}
    job = httpx.post(f"{own_platform.url}/v1/jobs", json=long, trust_env=False).raise_for_status().json()["id"]
    # A job that waits for the device is returned at the first Ctrl-C; this one occupies it.
    wait_until(
        lambda: state_of(own_platform, job) == ("running", "sample", [None]), within_s=PATIENCE_S, what="a sampling job"
    )
    os.kill(own_platform.pid, signal.SIGINT)
    up = next(process for process in own_platform.commands.started if process.pid == own_platform.pid)
    said = "s for 1 running job to finish; Ctrl-C again returns them to the queue"
    wait_until(lambda: said in own_platform.commands.output(), within_s=PATIENCE_S, what="a line about the running job")
    assert up.poll() is None
    os.kill(own_platform.pid, signal.SIGINT)

    assert up.wait(PATIENCE_S) == 0
    assert state_of(own_platform, job) == ("queued", None, ["requeued"])
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert alive == []
    assert not (own_platform.data_dir / "broker.url").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(own_platform.url, trust_env=False)


def state_of(platform: RunningPlatform, job_id: str) -> tuple[str, str | None, list[str | None]]:
    """Return the state and the stage of a job and the outcomes of its attempts, from the database."""
    with closing(sqlite3.connect(platform.data_dir / "mmaudio.db")) as database:
        state, stage = database.execute("select state, stage from jobs where id = ?", (job_id,)).fetchone()
        outcomes = database.execute("select outcome from job_attempts where job_id = ? order by attempt", (job_id,))
        return state, stage, [outcome for (outcome,) in outcomes]
