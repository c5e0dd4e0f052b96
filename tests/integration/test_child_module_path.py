"""A child process imports nothing from the folder in which it was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.host.supervisor import ChildSpec, Supervisor, child_environment, own_command


@pytest.mark.parametrize("module_path", ["", ".", ":{absolute}", "../hostile:{absolute}"])
def test_a_child_imports_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module_path: str
) -> None:
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("random.py", "jobs.py"):
        (hostile / name).write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write(__name__)\n")
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PYTHONPATH", module_path.format(absolute=tmp_path))
    python, *options = own_command("--version")
    code = f"import random, jobs; open({str(tmp_path / 'ran')!r}, 'w').close()"
    lines: list[str] = []
    supervisor = Supervisor(grace_s=20, tell=lines.append)
    supervisor.start(ChildSpec("child", [python, *options[: options.index("-m")], "-c", code], may_end=True))
    supervisor.run()

    assert lines == ["child exited"]
    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "imported").exists()


def test_absolute_folders_of_the_module_path_are_kept() -> None:
    environment = child_environment({"PYTHONPATH": ":/opt/site:.:lib", "HOME": "/root"})

    assert environment == {"PYTHONPATH": "/opt/site", "HOME": "/root", "PYTHONSAFEPATH": "1"}
