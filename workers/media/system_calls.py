"""A seccomp filter for media processes: what they never need, and what Landlock does not cover, fails with EPERM.

The filter is a list of what is denied, because which calls Python, numpy and FFmpeg make differs with their versions
and with the C library. Calls that are newer than the list, and `clone3`, whose arguments a filter cannot read, do not
exist for the process (ENOSYS); the C library then uses older ones. The numbers are those of the kernel's headers
asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_DENY, _UNKNOWN = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
# The constant of the kernel, and which of the two numbers of each call below is meant.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# setxattrat and what came after it; x32 calls, which have bit 30 set, are above it too.
_FIRST_UNKNOWN = 463
_CLONE_THREAD = 0x00010000
_NEW_NAMESPACES = 0x7E020080

_DENIED: dict[str, tuple[int | None, int | None]] = {
    # Permissions, owners, times and attributes of files: Landlock has no rights for them.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # Sockets beside the one that is open: Landlock does not cover UNIX sockets with a path.
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # Processes, and programs.
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "unshare": (272, 97),
    "setns": (308, 268),
    # Other processes.
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440), "kcmp": (312, 272), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # IPC that any process of this user may join.
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # Mounts, links, devices and handles of files.
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "mount_setattr": (442, 442), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "open_tree": (428, 428), "move_mount": (429, 429), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "mknod": (133, None), "mknodat": (259, 33), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "fanotify_init": (300, 262),
    "quotactl": (179, 60), "quotactl_fd": (443, 443),
    # Large or rarely used parts of the kernel, where its faults have been.
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "personality": (135, 92), "modify_ldt": (154, None), "iopl": (172, None),
    "ioperm": (173, None),
    # The machine.
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "syslog": (103, 116), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    # Identity and capabilities.
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "setgroups": (116, 159), "capset": (126, 91),
}  # fmt: skip
_CLONE, _CLONE3, _KILL, _TGKILL = (56, 220), (435, 435), (62, 129), (234, 131)
_PRLIMIT64, _FCNTL, _IOCTL, _PRCTL, _SECCOMP = (302, 261), (72, 25), (16, 29), (157, 167), (317, 277)
# Values of an argument that are denied: signals to others by way of a descriptor, input of a terminal, flags of files,
# and outliving the worker.
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP, _TIOCSTI, _FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR = 0x8901, 0x8902, 0x5412, 0x40086602, 0x401C5820
_PR_SET_PDEATHSIG = 1
_DENIED_ARGUMENTS = (
    (_FCNTL, 1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)),
    (_IOCTL, 1, (_FIOSETOWN, _SIOCSPGRP, _TIOCSTI, _FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR)),
    (_PRCTL, 0, (_PR_SET_PDEATHSIG,)),
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_system_calls() -> bool:
    """Restrict the system calls of this process and all its threads; return False where that is unsupported.

    Only threads may be started afterwards, and only this process may be signalled. Open files and sockets stay usable.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _ARCHITECTURES or struct.calcsize("P") != 8:
        return False
    instructions = _instructions(machine, os.getpid())
    program = _Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    number = _SECCOMP[_ARCHITECTURES[machine][1]]
    return bool(libc.syscall(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)) == 0)


def _instructions(machine: str, pid: int) -> bytes:
    """Return the BPF program for an architecture and a process."""
    architecture, column = _ARCHITECTURES[machine]
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, met=1),
        _step(_RETURN, _DENY),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _FIRST_UNKNOWN, unmet=1),
        _step(_RETURN, _UNKNOWN),
    ]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            code += _when_call(number, [_step(_RETURN, _DENY)])
    code += _when_call(_CLONE3[column], [_step(_RETURN, _UNKNOWN)])
    flags = [
        _step(_LOAD, _ARGUMENTS),
        _step(_ANY_BIT, _CLONE_THREAD, met=1),
        _step(_RETURN, _DENY),
        _step(_ANY_BIT, _NEW_NAMESPACES, unmet=1),
        _step(_RETURN, _DENY),
        _step(_RETURN, _ALLOW),
    ]
    code += _when_call(_CLONE[column], flags)
    for call, targets in ((_KILL, (pid,)), (_TGKILL, (pid,)), (_PRLIMIT64, (0, pid))):
        code += _when_call(call[column], _by_argument(0, targets, _ALLOW, otherwise=_DENY))
    for call, argument, values in _DENIED_ARGUMENTS:
        code += _when_call(call[column], _by_argument(argument, values, _DENY, otherwise=_ALLOW))
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def _when_call(number: int, then: list[bytes]) -> list[bytes]:
    """Return instructions that run `then`, which ends the program, for one call; the number of the call is loaded."""
    return [_step(_EQUAL, number, unmet=len(then)), *then]


def _by_argument(position: int, values: Iterable[int], result: int, *, otherwise: int) -> list[bytes]:
    """Return instructions that end with `result` where the lower half of an argument is one of `values`."""
    code = [_step(_LOAD, _ARGUMENTS + 8 * position)]  # both architectures are little-endian
    for value in values:
        code += [_step(_EQUAL, value, unmet=1), _step(_RETURN, result)]
    return [*code, _step(_RETURN, otherwise)]


def _step(operation: int, operand: int, *, met: int = 0, unmet: int = 0) -> bytes:
    """Return one instruction; a comparison skips `met` or `unmet` of the following ones."""
    return struct.pack("=HBBI", operation, met, unmet, operand)
