"""The generation pipeline: encode the inputs, sample a latent, decode it to a waveform.

A request's result does not depend on its batch: features are encoded and noise is drawn per request.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio_model.checkpoints.loading import Networks, SharedParts, load_networks
from mmaudio_model.checkpoints.parts import PARTS
from mmaudio_model.errors import ModelFaultError, RequestInvalidError
from mmaudio_model.features import NOTHING_ENCODED, Features
from mmaudio_model.intermediates import IntermediateCallback
from mmaudio_model.lengths import SequenceLengths, segment_frames, sequence_lengths
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.networks.clip import encode_frames, encode_tokens
from mmaudio_model.networks.flow import Conditions
from mmaudio_model.networks.tokenizer import tokenizer
from mmaudio_model.sampling import Guidance, StepCallback, draw_noise, draw_published_noise, euler
from mmaudio_model.variants import TEXT_TOKENS, Variant

EMPTY_KEPT = 16
"""Number of cached unconditional conditions, one per pair of lengths and negative prompt; a few MB each at most."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class GenerationRequest:
    """One sound to generate. At most one of `video` and `image`; with neither it is text-to-audio.

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
    features: Features = NOTHING_ENCODED
    """Features that are known already; the inputs of these need not be given."""


@dataclass(frozen=True)
class Encoded:
    """A batch ready for sampling, and each request's features for reuse."""

    requests: tuple[GenerationRequest, ...]
    lengths: SequenceLengths
    guidance: Guidance
    features: tuple[Features, ...]


@dataclass(frozen=True)
class Latents:
    """Sampled latents, (B', N, C), their rows in the batch, and the number of samples to return."""

    batch_size: int
    samples: int
    values: Tensor
    rows: tuple[int, ...]


class Pipeline:
    """A loaded variant on one device. Not thread-safe: one thread owns the device."""

    def __init__(self, variant: Variant, networks: Networks, device: str, dtype: torch.dtype) -> None:
        self.variant, self.device = variant, device
        self._networks, self._dtype = networks, dtype
        self._tokenizer = tokenizer()
        self._empty: OrderedDict[tuple[SequenceLengths, str | None], Conditions] = OrderedDict()

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
        shared: SharedParts | None = None,
    ) -> Pipeline:
        """Load a variant onto a device.

        Args:
            precision: `fp32`, `bf16` or `fp16`.
            parts: networks to load now; the others are loaded at first use.
            on_part: called with each network's name before it is loaded.
            shared: networks shared by the variants on this device and precision.

        Raises:
            WeightsMissingError, WeightsMismatchError: see `checkpoints.loading`.
            RequestInvalidError: the precision is unknown.
        """
        if precision not in DTYPES:
            raise RequestInvalidError(f"Got precision {precision!r}; there are {', '.join(DTYPES)}.")
        dtype = DTYPES[precision]
        networks = load_networks(
            variant,
            weights_dir=weights_dir,
            device=device,
            dtype=dtype,
            parts=parts,
            on_part=on_part,
            shared=shared,
        )
        return cls(variant, networks, device, dtype)

    def batch_key(self, request: GenerationRequest) -> tuple[SequenceLengths, int, bool, bool]:
        """Return the batch key: requests with equal keys can share a batch.

        Raises:
            RequestInvalidError: a value of the request is outside the limits.
        """
        _check(self.variant, request)
        lengths = sequence_lengths(self.variant, request.duration_s)
        _check_features(self.variant, lengths, request.features)
        return lengths, request.num_steps, request.cfg_strength >= 1, request.reference_exact

    def latent_tokens(self, request: GenerationRequest) -> int:
        """Return the length of a request's latent in tokens, which determines memory and most of the run time.

        Raises:
            RequestInvalidError: the duration is outside the variant's limits.
        """
        return sequence_lengths(self.variant, request.duration_s).latent

    @torch.inference_mode()
    def encode(
        self, requests: Sequence[GenerationRequest], *, on_intermediate: IntermediateCallback | None = None
    ) -> Encoded:
        """Encode the inputs of a batch.

        Raises:
            RequestInvalidError: there is no request, or they cannot share a batch.
        """
        keys = {self.batch_key(request) for request in requests}
        if len(keys) != 1:
            raise RequestInvalidError(
                f"Got {len(requests)} requests with {len(keys)} different batch keys; a batch needs exactly one."
            )
        ((lengths, _, guided, _),) = keys
        flow = self._networks.flow
        features = self._features(requests, lengths, guided, on_intermediate)
        clip = torch.stack([_or_empty(own.clip, flow.empty_clip_feat, lengths.clip) for own in features])
        # A still picture has no motion, so it gets the learned empty features, as text-to-audio does.
        sync = torch.stack([_or_empty(own.sync, flow.empty_sync_feat, lengths.sync) for own in features])
        text = torch.stack([_present(own.text) for own in features])
        conditional = flow.prepare(clip, sync, text, lengths.latent)
        empty = self._empty_conditions(requests, features, lengths) if guided else None
        strength = torch.tensor([request.cfg_strength for request in requests], device=self.device)
        guidance = Guidance(conditional, empty, strength[:, None, None])
        return Encoded(tuple(requests), lengths, guidance, features)

    @torch.inference_mode()
    def sample(
        self,
        encoded: Encoded,
        *,
        on_step: StepCallback | None = None,
        on_intermediate: IntermediateCallback | None = None,
    ) -> Latents:
        """Sample the latents of a batch. Rows returned by `on_step` are dropped; the other results do not change."""
        requests, lengths = encoded.requests, encoded.lengths
        shape = (lengths.latent, self.variant.mode.latent_channels)
        exact = requests[0].reference_exact
        noise = torch.cat([self._noise(request, shape) for request in requests])
        values, rows = euler(
            self._networks.flow, noise, encoded.guidance, requests[0].num_steps, on_step, as_published=exact
        )
        emit = on_intermediate or _ignore
        for start, end in zip(noise[list(rows)], values, strict=True):
            emit("noise", start)
            emit("latent", end)
        samples = lengths.decoded_samples if exact else lengths.samples
        return Latents(len(requests), samples, values, tuple(rows))

    def _noise(self, request: GenerationRequest, shape: tuple[int, int]) -> Tensor:
        if request.reference_exact:
            return draw_published_noise(request.seed, shape, device=self.device, dtype=self._dtype)
        return draw_noise(request.seed, shape).to(self.device)

    @torch.inference_mode()
    def vocode(
        self, latents: Latents, *, on_intermediate: IntermediateCallback | None = None
    ) -> list[np.ndarray | None]:
        """Return each request's waveform, float32 (samples,), in [-1, 1]; None for dropped rows.

        Raises:
            ModelFaultError: a waveform has NaN or infinite samples.
        """
        emit = on_intermediate or _ignore
        waveforms: list[np.ndarray | None] = [None] * latents.batch_size
        for row, value in zip(latents.rows, latents.values, strict=True):
            latent = self._networks.flow.denormalise(value[None]).to(self._dtype)
            mel = self._networks.vae.decode(latent)
            waveform = self._networks.vocoder(mel)[0, 0, : latents.samples]
            waveforms[row] = _finite(waveform.float().cpu().numpy())
            emit("latent_denormalised", latent[0])
            emit("mel", mel[0])
            emit("waveform", waveform)
        return waveforms

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        on_stage: Callable[[str], None] | None = None,
        on_step: StepCallback | None = None,
        on_intermediate: IntermediateCallback | None = None,
    ) -> list[np.ndarray | None]:
        """Encode, sample and vocode a batch; return its waveforms as `vocode` does.

        Args:
            on_stage: called with `encode`, `sample` and `vocode` when the stage starts.
            on_step: see `sampling.StepCallback`.
            on_intermediate: called with intermediate tensors; see `intermediates.IntermediateRecorder`.
        """
        enter_stage = on_stage or (lambda _: None)
        enter_stage("encode")
        encoded = self.encode(requests, on_intermediate=on_intermediate)
        enter_stage("sample")
        latents = self.sample(encoded, on_step=on_step, on_intermediate=on_intermediate)
        enter_stage("vocode")
        return self.vocode(latents, on_intermediate=on_intermediate)

    def _features(
        self,
        requests: Sequence[GenerationRequest],
        lengths: SequenceLengths,
        guided: bool,
        on_intermediate: IntermediateCallback | None,
    ) -> tuple[Features, ...]:
        """Return each request's features. Given features are reused; inputs shared by requests are encoded once."""
        encoded: dict[Hashable, Tensor] = {}

        def encode_once(known: Tensor | None, key: Hashable, encode: Callable[[], Tensor]) -> Tensor:
            if known is not None:
                return known.to(self.device, self._dtype)
            if key not in encoded or on_intermediate is not None:  # recording needs every request's own tensors
                encoded[key] = encode()
            return encoded[key]

        def text(known: Tensor | None, name: str, content: str | None) -> Tensor:
            features = encode_once(known, content, lambda: self._text_features(content))
            emit(name, features)
            return features

        emit = on_intermediate or _ignore
        found = []
        for request in requests:
            known, video, image = request.features, request.video, request.image
            clip: Tensor | None = None
            sync: Tensor | None = None
            negative: Tensor | None = None
            if not request.mask_away_clip and (known.clip is not None or video is not None or image is not None):
                shown = ("clip", id(video), id(image))
                clip = encode_once(known.clip, shown, partial(self._clip_features, request, lengths, emit))
            if known.sync is not None or video is not None:
                sync = encode_once(
                    known.sync, ("sync", id(video)), partial(self._sync_features, request, lengths, emit)
                )
            if guided:
                negative = text(known.negative_text, "negative_text_features", request.negative_prompt)
            prompt = text(known.text, "text_features", request.prompt)
            found.append(Features(clip, sync, prompt, negative))
        return tuple(found)

    def _empty_conditions(
        self, requests: Sequence[GenerationRequest], features: Sequence[Features], lengths: SequenceLengths
    ) -> Conditions:
        """Return the unconditional conditions, cached by lengths and negative prompt, which most requests share."""
        flow, rows = self._networks.flow, []
        for request, own in zip(requests, features, strict=True):
            key = (lengths, request.negative_prompt)
            if key not in self._empty:
                self._empty[key] = flow.prepare(
                    flow.empty_clip_feat.expand(1, lengths.clip, -1),
                    flow.empty_sync_feat.expand(1, lengths.sync, -1),
                    _present(own.negative_text)[None],
                    lengths.latent,
                )
            self._empty.move_to_end(key)
            rows.append(self._empty[key])
        while len(self._empty) > EMPTY_KEPT:
            self._empty.popitem(last=False)
        return Conditions.join(rows)

    def _clip_features(
        self, request: GenerationRequest, lengths: SequenceLengths, emit: IntermediateCallback
    ) -> Tensor:
        """Return (T, clip_dim) for a video, (1, clip_dim) for a picture."""
        if request.image is not None:
            frames = self._pixels(request.image.clip, 1)
        else:
            assert request.video is not None
            frames = self._pixels(request.video.clip, lengths.clip)
        features = encode_frames(self._networks.clip_image, frames)
        emit("clip_frames", frames)
        emit("clip_features", features)
        return features

    def _sync_features(
        self, request: GenerationRequest, lengths: SequenceLengths, emit: IntermediateCallback
    ) -> Tensor:
        """Return (S, sync_dim)."""
        assert request.video is not None
        frame_indices = torch.tensor(segment_frames(self.variant, lengths.sync), device=self.device)  # (segments, 16)
        frames = self._pixels(request.video.sync, max(int(frame_indices.max()) + 1, len(request.video.sync))) * 2 - 1
        features: Tensor = self._networks.sync(frames.to(self._dtype)[frame_indices]).flatten(0, 1)
        emit("sync_frames", frames)
        emit("sync_features", features)
        return features

    def _text_features(self, text: str | None) -> Tensor:
        """Return (77, text_dim)."""
        if text is None:
            return self._networks.flow.empty_string_feat
        return encode_tokens(self._networks.clip_text, self._tokenizer([text]).to(self.device))[0]

    def _pixels(self, frames: np.ndarray, count: int) -> Tensor:
        """Return float32 (count, 3, H, W) in [0, 1]; the last frame is repeated if there are too few."""
        chosen = np.minimum(np.arange(count), len(frames) - 1)
        pixels = torch.from_numpy(frames[chosen]).to(self.device).permute(0, 3, 1, 2)
        return pixels.float() * (1 / 255)


def _ignore(_name: str, _value: Tensor) -> None:
    """Default callback: ignore intermediate tensors."""


def _present(features: Tensor | None) -> Tensor:
    assert features is not None, "the text of every request is encoded"
    return features


def _finite(waveform: np.ndarray) -> np.ndarray:
    faulty = np.count_nonzero(~np.isfinite(waveform))
    if faulty:
        raise ModelFaultError(
            f"The model computed {faulty} of {waveform.size} samples as NaN or infinite. Try another seed, or another "
            "variant; if every job fails so, check the weights and the device."
        )
    return waveform


def _or_empty(features: Tensor | None, empty: Tensor, count: int) -> Tensor:
    """Return (count, width); a single feature is repeated."""
    return (empty if features is None else features).expand(count, -1)


def _check(variant: Variant, request: GenerationRequest) -> None:
    """Check the request's values; the duration is checked by `sequence_lengths`."""
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


def _check_features(variant: Variant, lengths: SequenceLengths, features: Features) -> None:
    sizes = variant.flow
    wanted = {
        "clip": ((lengths.clip, sizes.clip_dim), (1, sizes.clip_dim)),
        "sync": ((lengths.sync, sizes.sync_dim),),
        "text": ((TEXT_TOKENS, sizes.text_dim),),
        "negative_text": ((TEXT_TOKENS, sizes.text_dim),),
    }
    for name, shapes in wanted.items():
        value: Tensor | None = getattr(features, name)
        if value is not None and tuple(value.shape) not in shapes:
            raise RequestInvalidError(f"Got {name} features of shape {tuple(value.shape)}; it must be {shapes[0]}.")


def text_is_cut(text: str) -> bool:
    """Return whether a text exceeds CLIP's 75 tokens and is truncated."""
    words = tokenizer().encode(text)
    return len(words) > 75
