"""Arrays that two processes share without a file or a copy: sealed memory behind a descriptor."""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def share(array: np.ndarray) -> int:
    """Return a descriptor of sealed memory that holds the bytes of an array; the caller closes it.

    Raises:
        OSError: no memory is left, or the array exceeds this process's file-size limit.
    """
    descriptor = os.memfd_create("array", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = np.ascontiguousarray(array).data.cast("B")
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def mapped(descriptor: int, dtype: type[np.generic], *, max_bytes: int) -> np.ndarray:
    """Return shared memory as a flat array, without a copy; writes to it stay private to this process.

    Raises:
        ValueError: it is empty, larger than `max_bytes`, not a whole number of values, or not sealed: a process
            is killed when it reads memory that another one has shortened.
    """
    try:
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as exc:
        raise ValueError("the descriptor is not shared memory") from exc
    if sealed & _SEALS != _SEALS:
        raise ValueError("the shared memory is not sealed")
    size = os.fstat(descriptor).st_size
    if not 0 < size <= max_bytes:
        raise ValueError(f"the shared memory has {size} bytes; allowed are 1 to {max_bytes}")
    return np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY), dtype=dtype)
