"""ImageBind (Girdhar et al. 2023), by its package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmaudio_model.evaluation.pretrained_metrics.frames import uncropped_frames
from mmaudio_model.evaluation.pretrained_metrics.loading import read_checkpoint
from mmaudio_model.evaluation.pretrained_metrics.protocol import CLIP_S, Adapter

WEIGHTS = "imagebind_huge.pth"
SAMPLE_RATE_HZ = 16_000
STRETCH_S, STRETCHES = 2, 3
MELS, MEL_FRAMES, MEL_MEAN, MEL_DEVIATION = 128, 204, -4.268, 9.138
SIDE, CROPS, EVERY_S = 224, 3, 2.0
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ImageBind:
    """ImageBind embeddings of sounds and pictures (1024), averaged over sections and crops as in av-benchmark."""

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, folder: Path) -> None:
        from imagebind import data
        from imagebind.models import imagebind_model
        from pytorchvideo.data.clip_sampling import ConstantClipsPerVideoSampler

        self._data, self._kinds = data, imagebind_model.ModalityType
        self._sampler = ConstantClipsPerVideoSampler
        self._net = imagebind_model.imagebind_huge(pretrained=False)
        self._net.load_state_dict(read_checkpoint(folder / WEIGHTS))
        self._net.eval()

    @torch.inference_mode()
    def embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        sampler = self._sampler(clip_duration=STRETCH_S, clips_per_video=STRETCHES)
        times = self._data.get_clip_timepoints(sampler, len(waveform) / SAMPLE_RATE_HZ)
        mels = []
        for start_s, end_s in times:
            # A copy, since the mean is subtracted in place.
            part = waveform[int(start_s * SAMPLE_RATE_HZ) : int(end_s * SAMPLE_RATE_HZ)].copy()
            mels.append(self._data.waveform2melspec(torch.from_numpy(part)[None], SAMPLE_RATE_HZ, MELS, MEL_FRAMES))
        sections = (torch.stack(mels) - MEL_MEAN) / MEL_DEVIATION
        return self._embed(self._kinds.AUDIO, sections)

    @torch.inference_mode()
    def embed_video(self, video: Path) -> np.ndarray:
        pictures = torch.from_numpy(uncropped_frames(video, side=SIDE, every_s=EVERY_S, duration_s=CLIP_S))
        mean, deviation = torch.tensor(MEAN).view(3, 1, 1, 1), torch.tensor(DEVIATION).view(3, 1, 1, 1)
        # (T, H, W, 3) to (3, T, H, W)
        normalised = (pictures.permute(3, 0, 1, 2) / 255 - mean) / deviation
        crops = self._data.SpatialCrop(SIDE, num_crops=CROPS)([normalised])
        pairs = [crop[:, k : k + 2] for k in range(len(pictures) - 1) for crop in crops]
        return self._embed(self._kinds.VISION, torch.stack(pairs))

    def _embed(self, kind: str, clips: torch.Tensor) -> np.ndarray:
        values: np.ndarray = self._net({kind: clips[None]})[kind][0].numpy()
        return values


IMAGEBIND = Adapter(
    "imagebind", "imagebind", "pip install git+https://github.com/facebookresearch/ImageBind", (WEIGHTS,), ImageBind
)
