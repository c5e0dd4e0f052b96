"""Kernel restrictions of a media process beside its resource limits: no other files, network or processes.

Three layers that need no privilege: a network namespace of its own, in which no interface is up, Landlock, which
denies TCP and every file except the code of Python and of this project, and a filter of system calls
(`workers.media.system_calls`). A kernel or a container may refuse each; the functions return whether it was applied,
and the worker logs and reports a missing layer.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from enum import StrEnum
from pathlib import Path

# FFmpeg starts up to 16 threads for each decoder and x264 up to 128 for an encoder; a bomb starts thousands.
MAX_THREADS = 512
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_PR_SET_NO_NEW_PRIVS = 38
# The same numbers on every architecture (linux/landlock.h, asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_QUERY_VERSION = 1
_PATH_BENEATH = 1
_READ_CODE = 1 << 0 | 1 << 2 | 1 << 3  # execute, read files, list folders
# Write and read files, list, remove and make regular files, truncate. No links: one could point the worker elsewhere.
_USE_FOLDER = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 14
# How many file rights each version of Landlock has; a right that a version does not have is an error.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_BIND_AND_CONNECT = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3
_TCP_SINCE, _SCOPES_SINCE = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


class Layer(StrEnum):
    """The layers, by the names that a worker reports where the kernel or the container refuses them."""

    NAMESPACES = "namespaces"
    """A network and a user namespace of its own."""
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"


def leave_network() -> bool:
    """Move this process, which must have one thread, to an empty network; return False where that is not permitted.

    In the new user namespace its threads are counted by themselves, so their number is limited too. The kernel exempts
    root from that limit; there the memory limit bounds them.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # A new user namespace makes this permitted for any user, and removes what root could do outside.
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        resource.setrlimit(resource.RLIMIT_NPROC, (MAX_THREADS, MAX_THREADS))
        return True
    return bool(libc.unshare(_CLONE_NEWNET) == 0)


def close_file_system(readable: list[Path], own_folder: int) -> bool:
    """Restrict this process to files below `readable` and its own folder; return False where that is unsupported.

    Open files stay open. Where the kernel supports it, signals and ptrace reach no process outside.

    Args:
        own_folder: descriptor of the only folder that it may write to.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _QUERY_VERSION)
    if version < 1:
        return False
    all_rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    rules = _Ruleset(
        all_rights,
        _TCP_BIND_AND_CONNECT if version >= _TCP_SINCE else 0,
        _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPES_SINCE else 0,
    )
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), 0)
    if ruleset < 0:
        return False
    try:
        _allow(libc, ruleset, own_folder, _USE_FOLDER & all_rights)
        for path in readable:
            if path.is_dir():
                folder = os.open(path, os.O_PATH)
                _allow(libc, ruleset, folder, _READ_CODE)
                os.close(folder)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, folder: int, rights: int) -> None:
    rule = _PathBeneath(rights, folder)
    if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused a Landlock rule")
