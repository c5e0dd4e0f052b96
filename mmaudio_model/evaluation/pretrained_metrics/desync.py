"""Synchformer's full audio-visual network (Iashin et al. 2024, checkpoint 24-01-04T16-39-21), by the av_bench package.

Synchformer's own repository cannot be installed beside other packages (its modules are called `model` and `utils`);
av_bench has the same network with the same tensor names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.evaluation.pretrained_metrics.frames import square_frames
from mmaudio_model.evaluation.pretrained_metrics.loading import read_checkpoint
from mmaudio_model.evaluation.pretrained_metrics.protocol import CLIP_S, Adapter

WEIGHTS = "24-01-04T16-39-21.pt"
SAMPLE_RATE_HZ = 16_000
SIDE, SEGMENT_FRAMES, SEGMENT_SAMPLES = 224, 16, 10_240
STRETCH_SEGMENTS = 14
"""4.8 s: segments overlap by half."""
MEL_FRAMES, LOG_FLOOR, MEL_MEAN, MEL_DEVIATION = 66, 1e-6, -4.2677393, 4.5689974


class Desync:
    """Offsets of the first and of the last 4.8 s, as av-benchmark takes them."""

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, folder: Path) -> None:
        import torchaudio
        from av_bench.synchformer.synchformer import Synchformer

        held = read_checkpoint(folder / WEIGHTS)
        self._net = Synchformer()
        self._net.load_state_dict(held.get("model", held))
        self._net.eval()
        self._mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=SAMPLE_RATE_HZ, win_length=400, hop_length=160, n_fft=1024, n_mels=128
        )

    @torch.inference_mode()
    def offset_logits(self, video: Path, waveform: np.ndarray) -> np.ndarray:
        pictures = torch.from_numpy(square_frames(video, side=SIDE, duration_s=CLIP_S))
        frame_segments = _segments(pictures.permute(0, 3, 1, 2) / 127.5 - 1, SEGMENT_FRAMES)
        sound_segments = _segments(torch.from_numpy(waveform), SEGMENT_SAMPLES)
        # Both are cut to the shorter one.
        count = min(len(frame_segments), len(sound_segments))
        if count < STRETCH_SEGMENTS:
            raise MediaInvalidError(f"{video} and its sound have less than 4.8 s in common, which DeSync needs.")
        vision = self._net.extract_vfeats(frame_segments[:count, None])[:, 0]
        audio = self._net.extract_afeats(self._spectrograms(sound_segments[:count])[None, :, None])[0]
        sections = (slice(None, STRETCH_SEGMENTS), slice(-STRETCH_SEGMENTS, None))
        logits = [self._net.compare_v_a(vision[part][None], audio[part][None])[0] for part in sections]
        return torch.stack(logits).numpy()

    def _spectrograms(self, segments: torch.Tensor) -> torch.Tensor:
        mels = torch.log(self._mel(segments) + LOG_FLOOR)[..., :MEL_FRAMES]
        mels = torch.nn.functional.pad(mels, (0, MEL_FRAMES - mels.shape[-1]))
        return (mels - MEL_MEAN) / (2 * MEL_DEVIATION)


def _segments(values: torch.Tensor, length: int) -> torch.Tensor:
    """Return the segments (S, length, ...), each half a length after the one before."""
    starts = range(0, len(values) - length + 1, length // 2)
    return torch.stack([values[start : start + length] for start in starts]) if starts else values[:0]


DESYNC = Adapter("desync", "av_bench", "pip install git+https://github.com/hkchengrex/av-benchmark", (WEIGHTS,), Desync)
