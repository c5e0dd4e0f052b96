"""The supervisor with real, small child processes; a child and what it starts must not outlive it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from local_services.commands import wait_until
from workers.host.supervisor import (
    CRASHES_ALLOWED,
    EXIT_CONFIGURATION,
    EXIT_DEVICE_UNUSABLE,
    EXIT_RESTART,
    HEALTHY_AFTER_S,
    ChildConfigurationError,
    ChildSpec,
    CrashLoopError,
    Supervisor,
)

PATIENCE_S = 20.0
LIVES = "import time; time.sleep(600)"


@dataclass
class PatientClock:
    """A clock for `Supervisor` that stands still while a child runs, so that a slow machine changes nothing."""

    children: Callable[[], object] = dict
    seconds: float = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        if self.children():
            time.sleep(0.005)
        else:
            self.seconds += seconds


@dataclass
class Harness:
    """A folder in which children write lines, and the supervisors that a test has made."""

    folder: Path
    lines: list[str] = field(default_factory=list)
    supervisors: list[Supervisor] = field(default_factory=list)

    def supervisor(
        self, *, grace_s: float = PATIENCE_S, clock: PatientClock | None = None, **options: bool
    ) -> Supervisor:
        if clock is None:
            supervisor = Supervisor(grace_s=grace_s, tell=self.lines.append, **options)
        else:
            supervisor = Supervisor(
                grace_s=grace_s, tell=self.lines.append, monotonic=clock.monotonic, sleep=clock.sleep, **options
            )
            clock.children = supervisor.pids
        self.supervisors.append(supervisor)
        return supervisor

    def child(self, name: str, code: str, **environment: str) -> ChildSpec:
        """Return a child that runs `code`, in which `say(word)` appends a line to the harness's book."""
        begin = f"def say(word):\n    with open({str(self._book)!r}, 'a') as book: book.write(str(word) + '\\n')\n"
        return ChildSpec(name, [sys.executable, "-I", "-S", "-c", begin + code], environment)

    @property
    def _book(self) -> Path:
        return self.folder / "book"

    def said(self) -> list[str]:
        return self._book.read_text().splitlines() if self._book.exists() else []

    def wait_for(self, *words: str) -> None:
        wait_until(lambda: set(words) <= set(self.said()), within_s=PATIENCE_S, what=f"{words} in {self.said()}")

    def pid_said(self, name: str) -> int:
        """Return the pid that a process left as `name=pid`."""
        wait_until(lambda: any(f"{name}=" in word for word in self.said()), within_s=PATIENCE_S, what=name)
        return int(next(word for word in self.said() if word.startswith(f"{name}=")).partition("=")[2])


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Nothing that a test has started may be left when it ends."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    harness = Harness(tmp_path)
    yield harness
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])
    for supervisor in harness.supervisors:
        for pid in supervisor.pids().values():
            os.killpg(pid, signal.SIGKILL)
        supervisor.stop()
    for word in harness.said():
        if "=" in word and runs(pid := int(word.partition("=")[2])):
            os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def answers_sigterm(name: str, then: str = "sys.exit(0)") -> str:
    """Return the code of a child that says `NAME ready`, and `NAME stops` when it is asked to stop."""
    return (
        "import signal, sys, time\n"
        f"def stop(*_):\n    say('{name} stops')\n    {then}\n"
        f"signal.signal(signal.SIGTERM, stop)\nsay('{name} ready')\ntime.sleep(600)\n"
    )


def ignores_sigterm(name: str) -> str:
    return (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"say(f'{name}={{os.getpid()}}')\ntime.sleep(600)\n"
    )


def starts_a_grandchild(harness: Harness, then: str) -> str:
    """Return the code of a child that starts one that ignores SIGTERM, waits for its word, and goes on with `then`."""
    grandchild = harness.child("", ignores_sigterm("grandchild")).command
    return (
        f"import os, signal, subprocess, sys, time\nsubprocess.Popen({grandchild!r})\n"
        f"while not os.path.exists({str(harness.folder / 'book')!r}): time.sleep(0.01)\n{then}\n"
    )


def another_pid(supervisor: Supervisor, name: str, before: int) -> Callable[[], bool]:
    return lambda: supervisor.pids().get(name, before) != before


def test_a_child_that_dies_is_said_and_started_again(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    first = supervisor.start(harness.child("api", LIVES))
    os.kill(first, signal.SIGKILL)
    supervisor.run(until=another_pid(supervisor, "api", first))

    assert harness.lines == ["api was killed by SIGKILL; restarting it in 0.5 s"]
    assert not runs(first)
    assert runs(supervisor.pids()["api"])


def test_the_others_go_on_while_one_is_started_again(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    well = supervisor.start(harness.child("control", LIVES))
    first = supervisor.start(harness.child("api", LIVES))
    os.kill(first, signal.SIGKILL)
    supervisor.run(until=lambda: bool(harness.lines))

    assert supervisor.pids() == {"control": well}


def test_pauses_grow_in_a_crash_loop_until_it_is_given_up(harness: Harness) -> None:
    clock = PatientClock()
    supervisor = harness.supervisor(clock=clock)
    begun: list[float] = []

    def note_starts() -> bool:
        if len(harness.said()) > len(begun):
            begun.append(clock.seconds)
        return False

    supervisor.start(harness.child("worker cpu:0", "say('begun'); raise SystemExit(3)"))
    with pytest.raises(CrashLoopError, match="worker cpu:0 exited with status 3, 6 times in a row; giving up"):
        supervisor.run(until=note_starts)
    note_starts()

    pauses = [0.5, 1.0, 2.0, 4.0, 8.0]
    assert harness.lines == [f"worker cpu:0 exited with status 3; restarting it in {pause:g} s" for pause in pauses]
    assert len(begun) == CRASHES_ALLOWED + 1
    waited = [after - before for before, after in pairwise(begun)]
    # A look every 0.1 s of this clock: one to see the death, one to see that the pause is over.
    assert all(pause - 0.15 <= real <= pause + 0.35 for pause, real in zip(pauses, waited, strict=True)), waited
    assert supervisor.pids() == {}


def test_a_child_that_was_well_for_long_begins_a_new_count(harness: Harness) -> None:
    clock = PatientClock()
    supervisor = harness.supervisor(clock=clock)
    pid = supervisor.start(harness.child("api", LIVES))
    for lived_s in (0.0, 0.0, HEALTHY_AFTER_S + 1):
        clock.seconds += lived_s
        os.kill(pid, signal.SIGKILL)
        supervisor.run(until=another_pid(supervisor, "api", pid))
        pid = supervisor.pids()["api"]

    assert [line.rpartition(" in ")[2] for line in harness.lines] == ["0.5 s", "1 s", "0.5 s"]


def test_a_child_that_cannot_be_started_at_all_is_an_error(harness: Harness) -> None:
    with pytest.raises(FileNotFoundError):
        harness.supervisor().start(ChildSpec("api", [str(harness.folder / "missing")]))


def test_a_child_has_its_own_environment_on_top_of_ours(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "ours")
    code = "import os, time; say(os.environ['OURS'] + os.environ['OMP_NUM_THREADS']); time.sleep(600)"
    supervisor = harness.supervisor()
    supervisor.start(harness.child("worker", code, OMP_NUM_THREADS="3"))

    harness.wait_for("ours3")
    supervisor.stop()


def test_stop_asks_the_last_started_first_and_waits_for_it(harness: Harness) -> None:
    supervisor = harness.supervisor()
    pids = [
        supervisor.start(harness.child(name, answers_sigterm(name, then="time.sleep(0.1); say('gone'); sys.exit(0)")))
        for name in ("broker", "api", "worker")
    ]
    harness.wait_for("broker ready", "api ready", "worker ready")
    supervisor.stop()

    assert harness.said()[3:] == ["worker stops", "gone", "api stops", "gone", "broker stops", "gone"]
    assert not any(runs(pid) for pid in pids)
    assert supervisor.pids() == {}
    assert harness.lines == []


def test_equals_are_asked_to_stop_together(harness: Harness) -> None:
    supervisor = harness.supervisor(in_order=False)
    # Each ends only when both were asked.
    book = str(harness.folder / "book")
    both = f"while open({book!r}).read().count('stops') < 2: time.sleep(0.01)\n    sys.exit(0)"
    pids = [supervisor.start(harness.child(name, answers_sigterm(name, then=both))) for name in ("one", "two")]
    harness.wait_for("one ready", "two ready")
    supervisor.stop()

    assert not any(runs(pid) for pid in pids)
    assert harness.lines == []


def test_a_child_that_ignores_the_request_is_killed_after_the_grace_with_what_it_started(harness: Harness) -> None:
    supervisor = harness.supervisor(grace_s=0.1)
    stubborn = starts_a_grandchild(
        harness, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsay('ready')\ntime.sleep(600)"
    )
    pid = supervisor.start(harness.child("worker", stubborn))
    harness.wait_for("ready")
    grandchild = harness.pid_said("grandchild")
    supervisor.stop()

    assert harness.lines == ["worker did not stop in time; killing it"]
    assert not runs(pid)
    wait_until(lambda: not runs(grandchild), within_s=PATIENCE_S, what="the end of the grandchild")


def test_a_child_that_stops_when_asked_leaves_nothing_that_it_started(harness: Harness) -> None:
    supervisor = harness.supervisor()
    supervisor.start(harness.child("api", starts_a_grandchild(harness, answers_sigterm("api"))))
    harness.wait_for("api ready")
    grandchild = harness.pid_said("grandchild")
    assert runs(grandchild)
    supervisor.stop()

    assert "api stops" in harness.said()
    wait_until(lambda: not runs(grandchild), within_s=PATIENCE_S, what="the end of the grandchild")


def test_a_child_that_dies_leaves_nothing_that_it_started(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    supervisor.start(harness.child("api", starts_a_grandchild(harness, "os.kill(os.getpid(), signal.SIGKILL)")))
    grandchild = harness.pid_said("grandchild")
    supervisor.run(until=lambda: bool(harness.lines))

    wait_until(lambda: not runs(grandchild), within_s=PATIENCE_S, what="the end of the grandchild")


def test_a_stop_signal_ends_the_watch_and_a_second_one_is_passed_on(harness: Harness) -> None:
    def hurry(seconds: float) -> None:
        if harness.said().count("worker stops") == 1 and not hurried:
            hurried.append(True)
            signal.raise_signal(signal.SIGTERM)
        time.sleep(0.01)

    hurried: list[bool] = []
    supervisor = Supervisor(grace_s=600, tell=harness.lines.append, sleep=hurry)
    harness.supervisors.append(supervisor)
    supervisor.install_signal_handlers()
    second_stop = f"if open({str(harness.folder / 'book')!r}).read().count('worker stops') == 2: sys.exit(0)"
    pid = supervisor.start(harness.child("worker", answers_sigterm("worker", then=second_stop)))
    harness.wait_for("worker ready")
    signal.raise_signal(signal.SIGINT)
    supervisor.run()
    assert supervisor.stopping
    assert runs(pid)
    supervisor.stop()

    assert harness.said()[:3] == ["worker ready", "worker stops", "worker stops"]
    assert harness.lines == []
    assert not runs(pid)


def test_a_second_stop_signal_that_was_lost_is_repeated(harness: Harness) -> None:
    # Two signals of one kind that are pending at once reach a process as one.
    supervisor = harness.supervisor(grace_s=600)
    supervisor.install_signal_handlers()
    busy_until_a_signal_is_pending = (
        "import signal, sys, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\nsay('worker ready')\n"
        "while signal.SIGTERM not in signal.sigpending(): time.sleep(0.01)\ntime.sleep(0.3)\n"
        "for word in ('first', 'second'):\n    signal.sigwait([signal.SIGTERM])\n    say(word)\n"
    )
    pid = supervisor.start(harness.child("worker", busy_until_a_signal_is_pending))
    harness.wait_for("worker ready")
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    supervisor.run()
    supervisor.stop()

    assert harness.said() == ["worker ready", "first", "second"]
    assert not runs(pid)


def test_a_stop_that_waits_says_for_whom_and_how_long(harness: Harness) -> None:
    reports: list[tuple[list[str], float]] = []
    word = harness.folder / "reported"

    def report(names: list[str], seconds_left: float) -> None:
        reports.append((names, seconds_left))
        word.touch()

    supervisor = Supervisor(grace_s=600, tell=harness.lines.append, stopping_report=report)
    harness.supervisors.append(supervisor)
    until_reported = f"import os\n    while not os.path.exists({str(word)!r}): time.sleep(0.01)\n    sys.exit(0)"
    supervisor.start(harness.child("worker", answers_sigterm("worker", then=until_reported)))
    harness.wait_for("worker ready")
    supervisor.stop()

    names, seconds_left = reports[0]
    assert names == ["worker"]
    assert 0 < seconds_left < 600


def test_a_worker_that_has_ended_well_is_not_started_again_and_the_last_one_ends_the_watch(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    for name in ("worker cpu:0", "worker cpu:1"):
        spec = harness.child(name, f"say({name!r})")
        supervisor.start(ChildSpec(spec.name, spec.command, may_end=True))
    supervisor.run()

    assert sorted(harness.lines) == ["worker cpu:0 exited", "worker cpu:1 exited"]
    assert sorted(harness.said()) == ["worker cpu:0", "worker cpu:1"]


def test_another_child_that_ends_is_started_again_however_well_it_did(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    supervisor.start(harness.child("api", "say('ran')"))
    supervisor.run(until=lambda: len(harness.said()) > 1)

    assert harness.lines[0] == "api exited with status 0; restarting it in 0.5 s"


def test_a_child_that_wants_to_start_afresh_does_so_as_often_as_it_likes(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    supervisor.start(harness.child("worker cpu:0", f"say('ran'); raise SystemExit({EXIT_RESTART})"))
    supervisor.run(until=lambda: len(harness.said()) > CRASHES_ALLOWED + 2)

    assert set(harness.lines) == {"worker cpu:0 asked for a restart; restarting it"}


def test_a_device_that_was_refused_is_left_out_and_the_others_go_on(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    well = supervisor.start(harness.child("worker cuda:0", LIVES))
    supervisor.start(harness.child("worker cuda:1", f"raise SystemExit({EXIT_DEVICE_UNUSABLE})"))
    supervisor.run(until=lambda: bool(harness.lines))

    assert harness.lines == ["worker cuda:1 cannot use its device (the reason is above); continuing without it"]
    assert supervisor.pids() == {"worker cuda:0": well}


def test_a_child_that_cannot_use_its_settings_is_not_restarted(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    supervisor.start(harness.child("api", f"say('ran'); raise SystemExit({EXIT_CONFIGURATION})"))
    with pytest.raises(ChildConfigurationError, match="api cannot use its settings"):
        supervisor.run()

    assert harness.said() == ["ran"]


def test_a_worker_whose_devices_were_all_refused_ends_with_that(harness: Harness) -> None:
    supervisor = harness.supervisor(clock=PatientClock())
    supervisor.start(harness.child("worker cuda:0", f"raise SystemExit({EXIT_DEVICE_UNUSABLE})"))
    with pytest.raises(CrashLoopError, match=r"worker cuda:0 cannot use its device.*none is left"):
        supervisor.run()
