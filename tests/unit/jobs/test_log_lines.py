"""Log lines hold printable characters only, whatever names, keys and errors hold."""

from __future__ import annotations

import io
import logging

import pytest

from jobs.log_lines import FORMAT, PrintableFormatter, printable, start_logging


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 日本 %s", "plain ü 日本 %s"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("caf\udce9.mp4", "caf\\xe9.mp4"),
        ("\ud800", "\\ud800"),
        ("\u202egpj.exe\u2028", "\\u202egpj.exe\\u2028"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def logged(log: logging.Logger) -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter(FORMAT))
    log.addHandler(handler)
    log.propagate = False
    return stream


def test_a_key_cannot_forge_a_line_nor_can_an_exception() -> None:
    log = logging.getLogger("tests.log_lines")
    stream = logged(log)
    forged = "a\n2026-01-01 00:00:00,000 ERROR root: forged\x1b[31m"
    log.warning("key %s", forged)
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("failed")
    log.warning("stack", stack_info=True)
    lines = stream.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("2026-01-01 00:00:00")] == []
    assert any("Traceback" in line for line in lines)
    assert all(line.startswith("  ") for line in lines if " tests.log_lines: " not in line)


def test_every_process_logs_so(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    start_logging("WARNING")
    (handler,) = root.handlers
    assert isinstance(handler.formatter, PrintableFormatter)
