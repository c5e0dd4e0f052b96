"""A video, a file, a folder, and a way to have media processes do something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tests.unit.workers.media.processes import FPS, HEIGHT, WIDTH, boot


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of a picture that becomes brighter."""
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FPS):
            picture = np.full((HEIGHT, WIDTH, 3), number * 10, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def anything(tmp_path: Path) -> Path:
    """A file, where it does not matter what is in it."""
    path = tmp_path / "input"
    path.write_bytes(b"anything")
    return path


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put code in place of what the process does with its file; its start, its limits and its answer stay real."""

    def replace_work(code: str) -> None:
        monkeypatch.setattr("workers.media.standby.BOOT", boot(code))

    return replace_work
