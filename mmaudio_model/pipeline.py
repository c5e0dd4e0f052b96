"""From requests to sound: encode what was seen and said, sample, vocode. A short sequence of named steps.

A request's result does not depend on what shares its batch: features are encoded and noise is drawn per request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio_model.checkpoints.loading import Networks, load_networks
from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.lengths import SequenceLengths, sequence_lengths
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.networks.clip import encode_frames, encode_tokens, tokenizer
from mmaudio_model.sampling import Guidance, StepCallback, draw_noise, euler
from mmaudio_model.variants import SEGMENT_FRAMES, SEGMENT_STRIDE, SEGMENT_TOKENS, Variant

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class GenerationRequest:
    """One sound to make. At most one of `video` and `image`; neither is text-to-audio.

    A negative prompt of None pushes away from the learned empty text; an empty one from the empty text CLIP reads.
    """

    duration_s: float
    seed: int
    prompt: str = ""
    negative_prompt: str | None = ""
    num_steps: int = 25
    cfg_strength: float = 4.5
    mask_away_clip: bool = False
    video: VideoFrames | None = None
    image: ImageFrame | None = None


@dataclass(frozen=True)
class Encoded:
    """A batch that is ready to be sampled."""

    requests: tuple[GenerationRequest, ...]
    lengths: SequenceLengths
    guidance: Guidance


@dataclass(frozen=True)
class Latents:
    """Sampled latents, float32 (B', N, C), and which requests of the batch they belong to."""

    batch_size: int
    lengths: SequenceLengths
    values: Tensor
    rows: tuple[int, ...]


class Pipeline:
    """A loaded variant on one device. Not thread-safe: one thread owns a device."""

    def __init__(self, variant: Variant, networks: Networks, device: str, dtype: torch.dtype) -> None:
        self.variant, self.device = variant, device
        self._networks, self._dtype = networks, dtype
        self._tokenizer = tokenizer()

    @classmethod
    def load(
        cls,
        variant: Variant,
        *,
        weights_dir: Path | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        on_part: Callable[[str], None] | None = None,
    ) -> Pipeline:
        """Load a variant onto a device.

        Args:
            precision: `fp32`, `bf16` or `fp16`.
            on_part: told the name of each part before it is loaded.

        Raises:
            WeightsMissingError, WeightsMismatchError: see `checkpoints.loading`.
            RequestInvalidError: the precision is unknown.
        """
        if precision not in DTYPES:
            raise RequestInvalidError(f"Got precision {precision!r}; there are {', '.join(DTYPES)}.")
        dtype = DTYPES[precision]
        networks = load_networks(variant, weights_dir=weights_dir, device=device, dtype=dtype, on_part=on_part)
        return cls(variant, networks, device, dtype)

    def batch_key(self, request: GenerationRequest) -> tuple[SequenceLengths, int, bool]:
        """Return what must be equal for requests to share a batch.

        Raises:
            RequestInvalidError: the request cannot be served at all.
        """
        _check(self.variant, request)
        return sequence_lengths(self.variant, request.duration_s), request.num_steps, request.cfg_strength >= 1

    @torch.inference_mode()
    def encode(self, requests: Sequence[GenerationRequest]) -> Encoded:
        """Encode what the requests show and say.

        Raises:
            RequestInvalidError: there is none, or they cannot share a batch.
        """
        keys = {self.batch_key(request) for request in requests}
        if len(keys) != 1:
            raise RequestInvalidError(f"Got {len(requests)} requests of {len(keys)} kinds; a batch has one kind.")
        ((lengths, _, guided),) = keys
        flow, device = self._networks.flow, self.device
        clip = torch.stack([self._clip_features(request, lengths) for request in requests])
        sync = torch.stack([self._sync_features(request, lengths) for request in requests])
        text = torch.cat([self._text_features(request.prompt) for request in requests])
        conditional = flow.prepare(clip, sync, text, lengths.latent)
        empty = None
        if guided:
            negative = torch.cat([self._text_features(request.negative_prompt) for request in requests])
            empty = flow.prepare(
                flow.empty_clip_feat.expand(len(requests), lengths.clip, -1),
                flow.empty_sync_feat.expand(len(requests), lengths.sync, -1),
                negative,
                lengths.latent,
            )
        strength = torch.tensor([request.cfg_strength for request in requests], device=device)
        return Encoded(tuple(requests), lengths, Guidance(conditional, empty, strength[:, None, None]))

    @torch.inference_mode()
    def sample(self, encoded: Encoded, *, on_step: StepCallback | None = None) -> Latents:
        """Sample the latents of a batch; rows that `on_step` names leave it at once, the others go on unchanged."""
        requests, lengths = encoded.requests, encoded.lengths
        shape = (lengths.latent, self.variant.mode.latent_channels)
        noise = torch.cat(
            [draw_noise(request.seed, shape, device=self.device, dtype=self._dtype) for request in requests]
        )
        values, rows = euler(self._networks.flow, noise, encoded.guidance, requests[0].num_steps, on_step)
        return Latents(len(requests), lengths, values, tuple(rows))

    @torch.inference_mode()
    def vocode(self, latents: Latents) -> list[np.ndarray | None]:
        """Return each request's waveform, float32 (samples,), in [-1, 1]; None for those that left the batch."""
        waveforms: list[np.ndarray | None] = [None] * latents.batch_size
        for row, value in zip(latents.rows, latents.values, strict=True):
            mel = self._networks.vae.decode(self._networks.flow.denormalise(value[None]).to(self._dtype))
            waveform = self._networks.vocoder(mel)[0, 0, : latents.lengths.samples]
            waveforms[row] = waveform.float().cpu().numpy()
        return waveforms

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        on_stage: Callable[[str], None] | None = None,
        on_step: StepCallback | None = None,
    ) -> list[np.ndarray | None]:
        """Do all three steps; `on_stage` is told `encode`, `sample` and `vocode` as they begin."""
        tell = on_stage or (lambda _: None)
        tell("encode")
        encoded = self.encode(requests)
        tell("sample")
        latents = self.sample(encoded, on_step=on_step)
        tell("vocode")
        return self.vocode(latents)

    def _clip_features(self, request: GenerationRequest, lengths: SequenceLengths) -> Tensor:
        """Return (T, clip_dim)."""
        flow = self._networks.flow
        if request.mask_away_clip or (request.video is None and request.image is None):
            return flow.empty_clip_feat.expand(lengths.clip, -1)
        if request.image is not None:
            frames = self._pixels(request.image.clip, 1)
            return encode_frames(self._networks.clip, frames).expand(lengths.clip, -1)
        assert request.video is not None
        return encode_frames(self._networks.clip, self._pixels(request.video.clip, lengths.clip))

    def _sync_features(self, request: GenerationRequest, lengths: SequenceLengths) -> Tensor:
        """Return (S, sync_dim); a still picture does not move, so it has the learned empty features."""
        if request.video is None:
            return self._networks.flow.empty_sync_feat.expand(lengths.sync, -1)
        segments = lengths.sync // SEGMENT_TOKENS
        frames = self._pixels(request.video.sync, (segments - 1) * SEGMENT_STRIDE + SEGMENT_FRAMES)
        return self._networks.sync((frames * 2 - 1)[None].to(self._dtype))[0]

    def _text_features(self, text: str | None) -> Tensor:
        """Return (1, 77, text_dim)."""
        if text is None:
            return self._networks.flow.empty_string_feat[None]
        return encode_tokens(self._networks.clip, self._tokenizer([text]).to(self.device))

    def _pixels(self, frames: np.ndarray, count: int) -> Tensor:
        """Return float32 (count, 3, H, W) in [0, 1]; a stretch that ends early keeps its last frame."""
        chosen = np.minimum(np.arange(count), len(frames) - 1)
        pixels = torch.from_numpy(frames[chosen]).to(self.device).permute(0, 3, 1, 2)
        return pixels.float() * (1 / 255)


def _check(variant: Variant, request: GenerationRequest) -> None:
    """Refuse what no batch could serve; the duration is judged where lengths are made of it."""
    if request.video is not None and request.image is not None:
        raise RequestInvalidError("Got a video and an image; give one of them, or neither.")
    if request.num_steps < 1:
        raise RequestInvalidError(f"Got {request.num_steps} steps; at least 1 is needed.")
    if not math.isfinite(request.cfg_strength):
        raise RequestInvalidError(f"Got a CFG strength of {request.cfg_strength}; it must be a finite number.")
    if not -(2**63) <= request.seed < 2**64:
        raise RequestInvalidError(f"Got seed {request.seed}; it must fit in 64 bits.")
    if request.video is not None:
        _check_frames("video.clip", request.video.clip, variant.clip.frame_size)
        _check_frames("video.sync", request.video.sync, variant.sync.frame_size)
    if request.image is not None:
        _check_frames("image.clip", request.image.clip, variant.clip.frame_size)


def _check_frames(name: str, frames: np.ndarray, size: int) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (size, size, 3) or len(frames) == 0:
        raise RequestInvalidError(
            f"Got {name} of shape {frames.shape} and type {frames.dtype}; it must be uint8 and of shape "
            f"(frames, {size}, {size}, 3) with at least one frame."
        )


def text_is_cut(text: str) -> bool:
    """Say whether CLIP reads only the beginning of a text."""
    words = tokenizer().encode(text)
    return len(words) > 75
