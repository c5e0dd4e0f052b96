"""Media processes for tests: a sandbox, code in the place of what they do with a file, and which of them live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 20.0
MIB = 1024**2
WIDTH, HEIGHT, FPS = 64, 48, 25
RATE_HZ = 16_000
# Frames as `read_frames` of these tests asks for them; real ones are larger.
SIZES: dict[str, Any] = {"start_s": 0.0, "duration_s": 1.0, "clip_size": 32, "sync_size": 16}
SYNC_SHAPE = (FPS, 16, 16, 3)
# Code with which a process answers `read_image` of clip size 32.
AN_IMAGE = "arrays.append(share(numpy.zeros((1, 32, 32, 3), dtype='uint8')))\nreturn {'warnings': []}"
IMAGE_SHAPE = (1, 32, 32, 3)


def boot(code: Path) -> str:
    """Return the start of a fork server whose children run the code in a file on what they are given.

    Each child reads the code anew, while it still may. What the code appends to `arrays` goes with the answer.
    """
    return f"""
import os, pathlib, signal, socket, sys, time
sys.path.insert(0, sys.argv[1])
import numpy
from workers.media import forkserver, sandbox_child
from workers.media.shared_memory import share
serve, arrays = sandbox_child.main, []
def main(channel, parent):
    lines = open({str(code)!r}).read().splitlines()
    exec('def work(instruction, channel):\\n' + '\\n'.join('    ' + line for line in lines), globals())
    sandbox_child._work = lambda instruction: (work(instruction, channel), arrays)
    return serve(channel, parent)
sandbox_child.main = main
sys.exit(forkserver.main(int(sys.argv[2])))
"""


def media_pids(worker: int | None = None) -> set[int]:
    """Return the fork servers that a process has started, and the media processes below them.

    A platform that other tests have started below it has its own, which are none of these.
    """
    servers = [child for child in psutil.Process(worker).children() if "forkserver" in _command(child)]
    return {one.pid for server in servers for one in (server, *_below(server)) if runs(one.pid)}


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


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
