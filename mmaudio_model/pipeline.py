"""From requests to sound: encode what was seen and said, sample, vocode. A short sequence of named steps.

A request's result does not depend on what shares its batch: features are encoded and noise is drawn per request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio_model.checkpoints.loading import Networks, load_networks
from mmaudio_model.checkpoints.parts import PARTS
from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.lengths import SequenceLengths, segment_frames, sequence_lengths
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.networks.clip import encode_frames, encode_tokens
from mmaudio_model.networks.tokenizer import tokenizer
from mmaudio_model.sampling import Guidance, StepCallback, draw_noise, euler
from mmaudio_model.stages import Record
from mmaudio_model.variants import Variant

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class GenerationRequest:
    """One sound to make. At most one of `video` and `image`; neither is text-to-audio.

    A negative prompt of None pushes away from the learned empty text; an empty one from the empty text CLIP reads.
    `reference_exact` repeats what the published program does and we think wrong: the sound is not trimmed to the
    duration, and below float32 the noise is drawn, the steps are summed, and the flow's time is embedded in the
    weights' own precision.
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
    reference_exact: bool = False


@dataclass(frozen=True)
class Encoded:
    """A batch that is ready to be sampled."""

    requests: tuple[GenerationRequest, ...]
    lengths: SequenceLengths
    guidance: Guidance


@dataclass(frozen=True)
class Latents:
    """Sampled latents, (B', N, C), which requests of the batch they belong to, and how long the sound shall be."""

    batch_size: int
    samples: int
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
        parts: Collection[str] = PARTS,
        on_part: Callable[[str], None] | None = None,
    ) -> Pipeline:
        """Load a variant onto a device.

        Args:
            precision: `fp32`, `bf16` or `fp16`.
            parts: what is loaded now; the rest is loaded when it is first used.
            on_part: told the name of each part before it is loaded.

        Raises:
            WeightsMissingError, WeightsMismatchError: see `checkpoints.loading`.
            RequestInvalidError: the precision is unknown.
        """
        if precision not in DTYPES:
            raise RequestInvalidError(f"Got precision {precision!r}; there are {', '.join(DTYPES)}.")
        dtype = DTYPES[precision]
        networks = load_networks(
            variant, weights_dir=weights_dir, device=device, dtype=dtype, parts=parts, on_part=on_part
        )
        return cls(variant, networks, device, dtype)

    def batch_key(self, request: GenerationRequest) -> tuple[SequenceLengths, int, bool, bool]:
        """Return what must be equal for requests to share a batch.

        Raises:
            RequestInvalidError: the request cannot be served at all.
        """
        _check(self.variant, request)
        lengths = sequence_lengths(self.variant, request.duration_s)
        return lengths, request.num_steps, request.cfg_strength >= 1, request.reference_exact

    @torch.inference_mode()
    def encode(self, requests: Sequence[GenerationRequest], *, record: Record | None = None) -> Encoded:
        """Encode what the requests show and say.

        Raises:
            RequestInvalidError: there is none, or they cannot share a batch.
        """
        keys = {self.batch_key(request) for request in requests}
        if len(keys) != 1:
            raise RequestInvalidError(f"Got {len(requests)} requests of {len(keys)} kinds; a batch has one kind.")
        ((lengths, _, guided, _),) = keys
        flow, device = self._networks.flow, self.device
        tell = record or _ignore
        clip = torch.stack([self._clip_features(request, lengths, tell) for request in requests])
        sync = torch.stack([self._sync_features(request, lengths, tell) for request in requests])
        text = torch.stack([self._text_features(request.prompt) for request in requests])
        for features in text:
            tell("text_features", features)
        conditional = flow.prepare(clip, sync, text, lengths.latent)
        empty = None
        if guided:
            negative = torch.stack([self._text_features(request.negative_prompt) for request in requests])
            for features in negative:
                tell("negative_text_features", features)
            empty = flow.prepare(
                flow.empty_clip_feat.expand(len(requests), lengths.clip, -1),
                flow.empty_sync_feat.expand(len(requests), lengths.sync, -1),
                negative,
                lengths.latent,
            )
        strength = torch.tensor([request.cfg_strength for request in requests], device=device)
        return Encoded(tuple(requests), lengths, Guidance(conditional, empty, strength[:, None, None]))

    @torch.inference_mode()
    def sample(self, encoded: Encoded, *, on_step: StepCallback | None = None, record: Record | None = None) -> Latents:
        """Sample the latents of a batch; rows that `on_step` names leave it at once, the others go on unchanged."""
        requests, lengths = encoded.requests, encoded.lengths
        shape = (lengths.latent, self.variant.mode.latent_channels)
        exact = requests[0].reference_exact
        # Drawn in another precision, some values are others altogether: one seed shall be one sound in all of them.
        dtype = self._dtype if exact else torch.float32
        noise = torch.cat([draw_noise(request.seed, shape, device=self.device, dtype=dtype) for request in requests])
        values, rows = euler(
            self._networks.flow, noise, encoded.guidance, requests[0].num_steps, on_step, as_published=exact
        )
        tell = record or _ignore
        for start, end in zip(noise[list(rows)], values, strict=True):
            tell("noise", start)
            tell("latent", end)
        samples = lengths.decoded_samples if exact else lengths.samples
        return Latents(len(requests), samples, values, tuple(rows))

    @torch.inference_mode()
    def vocode(self, latents: Latents, *, record: Record | None = None) -> list[np.ndarray | None]:
        """Return each request's waveform, float32 (samples,), in [-1, 1]; None for those that left the batch."""
        tell = record or _ignore
        waveforms: list[np.ndarray | None] = [None] * latents.batch_size
        for row, value in zip(latents.rows, latents.values, strict=True):
            latent = self._networks.flow.denormalise(value[None]).to(self._dtype)
            mel = self._networks.vae.decode(latent)
            waveform = self._networks.vocoder(mel)[0, 0, : latents.samples]
            waveforms[row] = waveform.float().cpu().numpy()
            tell("latent_denormalised", latent[0])
            tell("mel", mel[0])
            tell("waveform", waveform)
        return waveforms

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        on_stage: Callable[[str], None] | None = None,
        on_step: StepCallback | None = None,
        record: Record | None = None,
    ) -> list[np.ndarray | None]:
        """Do all three steps; `on_stage` is told `encode`, `sample` and `vocode` as they begin.

        `record` is told what every stage gave: see `stages.StageRecorder`.
        """
        tell = on_stage or (lambda _: None)
        tell("encode")
        encoded = self.encode(requests, record=record)
        tell("sample")
        latents = self.sample(encoded, on_step=on_step, record=record)
        tell("vocode")
        return self.vocode(latents, record=record)

    def _clip_features(self, request: GenerationRequest, lengths: SequenceLengths, tell: Record) -> Tensor:
        """Return (T, clip_dim)."""
        flow = self._networks.flow
        if request.mask_away_clip or (request.video is None and request.image is None):
            return flow.empty_clip_feat.expand(lengths.clip, -1)
        if request.image is not None:
            frames = self._pixels(request.image.clip, 1)
        else:
            assert request.video is not None
            frames = self._pixels(request.video.clip, lengths.clip)
        features = encode_frames(self._networks.clip_image, frames)
        tell("clip_frames", frames)
        tell("clip_features", features)
        return features.expand(lengths.clip, -1)

    def _sync_features(self, request: GenerationRequest, lengths: SequenceLengths, tell: Record) -> Tensor:
        """Return (S, sync_dim); a still picture does not move, so it has the learned empty features."""
        if request.video is None:
            return self._networks.flow.empty_sync_feat.expand(lengths.sync, -1)
        seen = torch.tensor(segment_frames(self.variant, lengths.sync), device=self.device)  # (segments, 16)
        frames = self._pixels(request.video.sync, max(int(seen.max()) + 1, len(request.video.sync))) * 2 - 1
        features = self._networks.sync(frames.to(self._dtype)[seen]).flatten(0, 1)
        tell("sync_frames", frames)
        tell("sync_features", features)
        return features

    def _text_features(self, text: str | None) -> Tensor:
        """Return (77, text_dim)."""
        if text is None:
            return self._networks.flow.empty_string_feat
        return encode_tokens(self._networks.clip_text, self._tokenizer([text]).to(self.device))[0]

    def _pixels(self, frames: np.ndarray, count: int) -> Tensor:
        """Return float32 (count, 3, H, W) in [0, 1]; a stretch that ends early keeps its last frame."""
        chosen = np.minimum(np.arange(count), len(frames) - 1)
        pixels = torch.from_numpy(frames[chosen]).to(self.device).permute(0, 3, 1, 2)
        return pixels.float() * (1 / 255)


def _ignore(_name: str, _value: Tensor) -> None:
    """Nobody wants to see the stages."""


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
