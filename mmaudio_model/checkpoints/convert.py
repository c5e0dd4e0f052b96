"""The cache of converted checkpoints: each part as safetensors, in the form it runs in, mapped into memory.

A converted file is named after its source's path, size and modification time. It can always be made again: a stale or
damaged one is replaced, and loading works without one that cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

FORMAT = 1
"""Incremented when a part's network or its folding changes, so that older files are made again."""
SUFFIX = ".safetensors"
LOCK_TIMEOUT_S = 600
SPARE_BYTES = 1 << 30
ALIGNMENT = 64
LENGTH_BYTES = 8


def converted_path(source: Path, part: str) -> Path:
    """Return the path of the converted form of a part, whether it exists or not."""
    from huggingface_hub import constants

    status = source.stat()
    origin = _digest(str(source.resolve()))
    state = _digest(f"{status.st_size} {status.st_mtime_ns} {FORMAT}")
    return Path(constants.HF_HOME) / "mmaudio" / f"{part}-{origin}-{state}{SUFFIX}"


def read_converted(path: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a converted file, mapped and not copied; None if it does not exist or cannot be read."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dictionary
    except (SafetensorError, OSError) as exc:
        log.warning("%s cannot be read (%s); converting again", path, exc)
        return None


def write_converted(path: Path, tensors: dict[str, Tensor]) -> bool:
    """Write a converted file under a temporary name, then rename it; return whether that was possible."""
    size_bytes = sum(tensor.nbytes for tensor in tensors.values())
    draft = path.with_name(f".{path.stem}-{uuid4().hex}.part")
    try:
        if shutil.disk_usage(path.parent).free < size_bytes + SPARE_BYTES:
            log.warning("not enough disk space in %s for %s; later starts are slower", path.parent, path.name)
            return False
        _write(draft, tensors)
        draft.replace(path)
        for other in path.parent.glob(f"{_origin(path)}-*{SUFFIX}"):
            if other != path:
                other.unlink()  # made of an older state of the same source
    except OSError as exc:
        log.warning("%s cannot be written (%s); later starts are slower", path, exc)
        return False
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return True


@contextmanager
def conversion(path: Path) -> Iterator[None]:
    """Let one process at a time convert a file: all workers of a machine start at once and need the same files."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{_origin(path)}.lock"), timeout=LOCK_TIMEOUT_S)
        lock.acquire()
    except (OSError, Timeout, NotImplementedError):
        # Without a lock two processes may convert the same file; each renames a complete one.
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write float32 tensors as safetensors, one by one, at aligned offsets.

    The library's own writer sorts by name, so one odd size misaligns all tensors after it. Sums over misaligned vectors
    are taken in another order, and the sound would depend on whether its weights were mapped.
    """
    import torch

    order = sorted(tensors, key=lambda key: (tensors[key].nbytes % ALIGNMENT != 0, key))
    header, end = {}, 0
    for key in order:
        tensor = tensors[key]
        assert tensor.dtype == torch.float32, (key, tensor.dtype)
        header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        for key in order:
            file.write(tensors[key].contiguous().reshape(-1).view(torch.uint8).numpy().data)
        # Otherwise a power cut may leave the final name on a file whose end was never written.
        file.flush()
        os.fsync(file.fileno())


def _origin(path: Path) -> str:
    """Return a converted file's name without the state of its source."""
    return path.stem.rpartition("-")[0]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
