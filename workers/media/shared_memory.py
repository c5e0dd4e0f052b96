"""Arrays that two processes share without a file and without a copy: memory behind a descriptor, sealed."""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def share(array: np.ndarray) -> int:
    """Return a descriptor of memory that holds the bytes of an array and can never change again; the caller closes it.

    Raises:
        OSError: there is no room, or the size limit of this process's files is in the way.
    """
    descriptor = os.memfd_create("array", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(np.ascontiguousarray(array)).cast("B")
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def mapped(descriptor: int, dtype: type[np.generic], *, most_bytes: int) -> np.ndarray:
    """Return shared memory as a flat array, without a copy; writing to it changes nobody else's.

    Raises:
        ValueError: it is empty or larger than `most_bytes`, holds no whole number of values, or could still change:
            memory that another process shortens kills the one that reads it.
    """
    try:
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as exc:
        raise ValueError("the descriptor is no shared memory") from exc
    if sealed & _SEALS != _SEALS:
        raise ValueError("the shared memory is not sealed")
    size = os.fstat(descriptor).st_size
    if not 0 < size <= most_bytes:
        raise ValueError(f"the shared memory has {size} bytes; expected are 1 to {most_bytes}")
    return np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY), dtype=dtype)
