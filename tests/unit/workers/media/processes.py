"""Media processes for tests: a sandbox, code in the place of what they do with a file, and which of them live."""

from __future__ import annotations

from pathlib import Path

import psutil

from mmaudio_model.media.probe import MediaLimits
from workers.media.sandbox import MediaSandbox, SandboxLimits

PATIENCE_S = 20.0
MIB = 1024**2
WIDTH, HEIGHT, FPS = 64, 48, 25
RATE_HZ = 16_000
# Frames as `read_frames` of these tests asks for them; real ones are larger.
SIZES = {"start_s": 0.0, "duration_s": 1.0, "clip_size": 32, "sync_size": 16}


def sandbox(scratch: Path, media: MediaLimits | None = None, **limits: float) -> MediaSandbox:
    return MediaSandbox(media or MediaLimits(), SandboxLimits(**limits), scratch)


def boot(code: str) -> str:
    """Return the start of a process that runs `code` on its file; what it appends to `arrays` goes with its answer."""
    lines = "\n".join("    " + line for line in code.splitlines())
    return (
        "import os, pathlib, signal, socket, sys, time\nsys.path.insert(0, sys.argv[1])\nimport numpy\n"
        "import workers.media.child\nfrom workers.media.memory import share\narrays = []\n"
        f"def work(instruction):\n{lines}\n"
        "workers.media.child._work = lambda instruction: (work(instruction), arrays)\n"
        "sys.exit(workers.media.child.main(*map(int, sys.argv[2:])))\n"
    )


def media_pids(parent: int | None = None) -> set[int]:
    """Return the children that live and read media: other tests leave children of their own (multiprocessing's)."""
    children = psutil.Process(parent).children()
    return {child.pid for child in children if runs(child.pid) and "workers.media.child" in _command(child)}


def pids_left_in(folder: Path) -> list[int]:
    """Return the pids that processes have left in their folders as the names of files."""
    return [int(path.name) for path in folder.glob("media-*/*") if path.name.isdigit()]


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
