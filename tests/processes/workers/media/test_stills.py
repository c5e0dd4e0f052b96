"""Stills of every decoder and animations in confined processes: no decoder needs what a process has given up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.processes.workers.media.conftest import OpenSandbox
from tests.processes.workers.media.sandbox_processes import SIZES
from tests.unit.mmaudio_model.media.heif import heic

COLOUR = (200, 100, 50)


def test_a_still_of_every_decoder_is_read(tmp_path: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    picture = Image.new("RGB", (64, 64), COLOUR)
    for kind in ("JPEG", "WEBP", "AVIF"):
        picture.save(tmp_path / kind, kind)
    picture.save(tmp_path / "lzw", "TIFF", compression="tiff_lzw")
    (tmp_path / "grid").write_bytes(heic(np.asarray(picture), grid=3))
    box = sandbox(scratch)
    for path in sorted(tmp_path.iterdir()):
        if path.is_file():
            image = box.read_image(path, owner="job_1", clip_size=32)
            assert np.abs(image.clip[0].astype(int) - COLOUR).max() <= 5, path.name


def test_an_animation_is_read_as_a_video(tmp_path: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    first, *rest = [Image.new("RGB", (64, 48), (level, level, level)) for level in (40, 120, 200)]
    first.save(tmp_path / "a.webp", save_all=True, append_images=rest, duration=300, lossless=True)

    frames = sandbox(scratch).read_frames(tmp_path / "a.webp", owner="job_1", **SIZES)

    assert frames.duration_s == pytest.approx(0.9)
    assert sorted({int(picture.mean()) for picture in frames.sync}) == [40, 120, 200]
    assert list(scratch.iterdir()) == []
