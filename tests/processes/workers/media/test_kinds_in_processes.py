"""Each kind of video passes every action of a media process: what the process answers passes the worker's checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmaudio_model.media.audio import Sound
from mmaudio_model.media.mux.plan import MuxOptions
from mmaudio_model.media.probe import MediaLimits
from tests.integration.mmaudio_model.media.source_kinds import KINDS, SourceKind
from workers.media.sandbox import MediaSandbox, SandboxLimits


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaSandbox]:
    made = MediaSandbox(MediaLimits(), SandboxLimits(), tmp_path_factory.mktemp("scratch"))
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_kind_passes_every_action(kind: SourceKind, box: MediaSandbox, tmp_path: Path) -> None:
    path, options = kind.made(tmp_path), MuxOptions(start_s=0.1, duration_s=0.4)
    sound = Sound.mono(np.zeros(6400, dtype=np.float32), 16000)

    source = box.source_facts(path, owner="facts", section_end_s=0.5)
    frames = box.read_frames(path, owner="frames", start_s=0.1, duration_s=0.4, clip_size=32, sync_size=32)
    plan = box.plan(path, owner="plan", options=options, source=source)
    result = box.mux(path, sound, tmp_path / "out.video", owner="mux", options=options, plan=plan, source=source)

    assert source is not None
    assert source.frame_rate <= 50
    assert frames.sync.shape[0] == 10
    assert result.reencoded == plan.reencoded
