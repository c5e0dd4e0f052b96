"""`mmaudio doctor --help`."""

from __future__ import annotations

from click.testing import CliRunner

from jobs.cli.doctor import doctor


def test_the_grace_is_described_with_a_whole_number_as_default() -> None:
    shown = " ".join(CliRunner().invoke(doctor, ["--help"]).output.split())

    assert "Skip objects younger than this; their rows may not be committed yet. [default: 3600]" in shown
