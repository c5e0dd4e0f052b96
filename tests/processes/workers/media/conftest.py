"""A video, a file, a folder, and a way to have media processes do something else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import pytest

from mmaudio_model.media.probe import MediaLimits
from tests.processes.workers.media.sandbox_processes import FPS, HEIGHT, WIDTH, boot
from workers.media.sandbox import MediaSandbox, SandboxLimits


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


class OpenSandbox(Protocol):
    def __call__(
        self, scratch: Path, media: MediaLimits | None = None, *, prestart: bool = False, **limits: float
    ) -> MediaSandbox: ...


@pytest.fixture
def sandbox() -> Iterator[OpenSandbox]:
    """Makes sandboxes, and closes them."""
    with contextlib.ExitStack() as stack:

        def made(
            scratch: Path, media: MediaLimits | None = None, *, prestart: bool = False, **limits: float
        ) -> MediaSandbox:
            box = MediaSandbox(media or MediaLimits(), SandboxLimits(**limits), scratch, prestart=prestart)
            stack.callback(box.close)
            return box

        yield made


@pytest.fixture
def doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put code in place of what the next processes do with their file; start, limits and answer stay real."""
    code = tmp_path / "code"
    monkeypatch.setattr("workers.media.sandbox_client.BOOT", boot(code))

    def put(text: str) -> None:
        code.write_text(text)

    return put
