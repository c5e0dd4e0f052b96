"""The decisions of the filter's program on each architecture, by an interpreter of the few instructions it has."""

from __future__ import annotations

import errno
import struct

import pytest

from workers.media import system_calls
from workers.media.system_calls import _DENIED, _instructions

ALLOW, DENY, UNKNOWN = "allow", "deny", "unknown"
PID = 4711
X86, ARM = ("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)


def decide(machine: str, architecture: int, number: int, *arguments: int) -> str:
    """Run the program on a call as the kernel does."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, *[0] * 6)[:6])
    code = [struct.unpack("=HBBI", entry) for entry in _chunks(_instructions(machine, PID))]
    loaded, at = 0, 0
    while True:
        operation, met, unmet, operand = code[at]
        at += 1
        if operation == 0x20:
            (loaded,) = struct.unpack_from("=I", data, operand)
        elif operation == 0x06:
            return {0x7FFF0000: ALLOW, 0x50000 | errno.EPERM: DENY, 0x50000 | errno.ENOSYS: UNKNOWN}[operand]
        else:
            compared = {0x15: loaded == operand, 0x35: loaded >= operand, 0x45: bool(loaded & operand)}[operation]
            at += met if compared else unmet


def _chunks(program: bytes) -> list[bytes]:
    return [program[at : at + 8] for at in range(0, len(program), 8)]


@pytest.mark.parametrize(("machine", "column"), [(X86, 0), (ARM, 1)])
def test_every_listed_call_is_denied(machine: tuple[str, int], column: int) -> None:
    for name, numbers in _DENIED.items():
        number = numbers[column]
        assert number is None or decide(*machine, number) == DENY, name


@pytest.mark.parametrize(
    ("machine", "number", "arguments", "decision"),
    [
        (X86, 0, (), ALLOW),  # read
        (ARM, 63, (), ALLOW),
        (X86, 257, (), ALLOW),  # openat, which Landlock restricts
        (ARM, 56, (), ALLOW),
        (X86, 47, (), ALLOW),  # recvmsg, on the socket that is open
        (ARM, 212, (), ALLOW),
        (X86, 9, (), ALLOW),  # mmap
        (ARM, 222, (), ALLOW),
        (X86, 319, (), ALLOW),  # memfd_create
        (ARM, 279, (), ALLOW),
        (X86, 56, (0x003D0F00,), ALLOW),  # clone, as threads are started
        (ARM, 220, (0x003D0F00,), ALLOW),
        (X86, 56, (0x01200011,), DENY),  # clone, as fork does it
        (ARM, 220, (0x01200011,), DENY),
        (X86, 56, (0x10010000,), DENY),  # a thread in a new namespace
        (X86, 435, (), UNKNOWN),  # clone3
        (ARM, 435, (), UNKNOWN),
        (X86, 463, (), UNKNOWN),  # setxattrat
        (X86, 0x40000000 + 90, (), UNKNOWN),  # chmod of x32
        (X86, 62, (PID, 9), ALLOW),  # kill
        (X86, 62, (PID + 1, 9), DENY),
        (X86, 62, (0, 9), DENY),
        (X86, 62, (2**64 - 1, 9), DENY),
        (ARM, 129, (PID + 1, 9), DENY),
        (X86, 234, (PID, PID + 3, 6), ALLOW),  # tgkill, as abort does it
        (X86, 302, (0,), ALLOW),  # prlimit64
        (X86, 302, (PID + 1,), DENY),
        (X86, 72, (3, 1033), ALLOW),  # fcntl: F_ADD_SEALS
        (X86, 72, (3, 8), DENY),
        (ARM, 29, (3, 0x5412), DENY),
        (X86, 157, (4,), ALLOW),  # prctl
        (ARM, 167, (1,), DENY),
    ],
)
def test_a_call_is_decided_by_its_number_and_arguments(
    machine: tuple[str, int], number: int, arguments: tuple[int, ...], decision: str
) -> None:
    assert decide(*machine, number, *arguments) == decision


def test_calls_of_another_architecture_are_denied() -> None:
    assert decide("x86_64", 0x40000003, 4) == DENY  # write of i386 in a program of x86_64


def test_numbers_are_given_once_and_below_those_that_are_unknown() -> None:
    for column in (0, 1):
        numbers = [pair[column] for pair in _DENIED.values() if pair[column] is not None]
        assert len(numbers) == len(set(numbers))
        assert all(number < system_calls._FIRST_UNKNOWN for number in numbers if number is not None)


def test_on_an_unknown_architecture_there_is_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        machine = "riscv64"

    monkeypatch.setattr(system_calls.os, "uname", Machine)
    assert system_calls.filter_system_calls() is False
