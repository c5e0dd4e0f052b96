"""Plans choose faults by group or by name; faults without killed workers leave few attempts to a job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from chaos.__main__ import main, plan_of
from chaos.faults.catalog import FAULTS, Group, why_impossible
from chaos.inbox_files import NAME_MAX, files_left, odd_names, put_file
from chaos.plan import DEFAULT, LONG, SHORT_INFRASTRUCTURE


def names(group: Group) -> set[str]:
    return {fault.name for fault in FAULTS if fault.group is group}


def test_a_plan_chooses_its_faults_by_group_and_by_name() -> None:
    assert {fault.name for fault in LONG.faults()} == names(Group.INFRASTRUCTURE)
    assert [fault.name for fault in replace(DEFAULT, only=("kill_store",)).faults()] == ["kill_store"]
    assert {fault.name for fault in DEFAULT.faults()} == names(Group.INFRASTRUCTURE) | names(Group.CRASHES)
    left_out = names(Group.INFRASTRUCTURE) - {fault.name for fault in SHORT_INFRASTRUCTURE.faults()}
    assert left_out == {"wrong_credentials", "skew_clock"}
    with pytest.raises(ValueError, match="there is no fault kill_moon"):
        replace(DEFAULT, only=("kill_moon",)).faults()


@pytest.mark.parametrize(
    ("size", "group", "only", "attempts"),
    [
        (None, None, (), 20),
        (None, "infrastructure", (), 3),
        (None, None, ("freeze_store",), 3),
        (None, None, ("freeze_store", "kill_worker"), 20),
        ("short", "crashes", (), 20),
        ("short", "infrastructure", (), 1),
        ("long", None, (), 3),
        ("long", "crashes", (), 20),
    ],
)
def test_many_attempts_are_given_only_where_workers_are_killed(
    size: str | None, group: str | None, only: tuple[str, ...], attempts: int
) -> None:
    assert plan_of(size, group, only).max_attempts == attempts


def test_the_help_describes_every_fault() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    assert all(fault.name in shown and fault.description[:20] in shown for fault in FAULTS)


def test_a_wrong_name_is_refused_before_anything_starts() -> None:
    result = CliRunner().invoke(main, ["--only", "kill_moon"])
    assert (result.exit_code, "there is no fault kill_moon" in result.output) == (2, True)


def test_embedded_parts_leave_out_the_faults_of_servers_and_say_why() -> None:
    target: Any = SimpleNamespace(postgres=None, store=None, disk=None)
    impossible = {fault.name: why for fault in FAULTS if (why := why_impossible(fault, target))}
    assert impossible["freeze_database"] == "SQLite is a file, not a server"
    assert impossible["kill_store"] == "the store is a folder, not a server"
    assert "needs root" in impossible["fill_disk"]
    assert not impossible.keys() & {"byte_names", "slow_connections", "restart_api", "freeze_broker", "kill_worker"}


def test_odd_names_are_allowed_by_the_kernel_and_differ_between_calls(tmp_path: Path) -> None:
    for name in odd_names(1) + odd_names(2):
        assert len(name) <= NAME_MAX
        put_file(tmp_path, name, b"video")
    assert len(files_left(tmp_path)) == len(odd_names(1)) * 2
    assert any("\\xff\\xfe" in name for name in files_left(tmp_path))
    assert files_left(tmp_path / "missing") == []
