"""From requests to sound: encode what was seen and said, sample, vocode. A short sequence of named steps.

A request's result does not depend on what shares its batch: features are encoded and noise is drawn per request.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio_model.checkpoints.loading import Networks, SharedParts, load_networks
from mmaudio_model.checkpoints.parts import PARTS
from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.features import NOTHING_ENCODED, Features
from mmaudio_model.intermediates import IntermediateCallback
from mmaudio_model.lengths import SequenceLengths, segment_frames, sequence_lengths
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.networks.clip import encode_frames, encode_tokens
from mmaudio_model.networks.flow import Conditions
from mmaudio_model.networks.tokenizer import tokenizer
from mmaudio_model.sampling import Guidance, StepCallback, draw_noise, euler
from mmaudio_model.variants import TEXT_TOKENS, Variant

EMPTY_KEPT = 16
"""Of how many pairs of lengths and negative prompt the projected empty features are kept: a few MB each, at most."""
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
    features: Features = NOTHING_ENCODED
    """What is known already of what would be encoded; where it says what was seen, no frames are needed."""


@dataclass(frozen=True)
class Encoded:
    """A batch that is ready to be sampled, and each request's features, so that they may be used again."""

    requests: tuple[GenerationRequest, ...]
    lengths: SequenceLengths
    guidance: Guidance
    features: tuple[Features, ...]


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
            parts: what is loaded now; the rest is loaded when it is first used.
            on_part: told the name of each part before it is loaded.
            shared: networks that variants of this device and precision have in common.

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
        """Return what must be equal for requests to share a batch.

        Raises:
            RequestInvalidError: the request cannot be served at all.
        """
        _check(self.variant, request)
        lengths = sequence_lengths(self.variant, request.duration_s)
        _check_features(self.variant, lengths, request.features)
        return lengths, request.num_steps, request.cfg_strength >= 1, request.reference_exact

    def latent_tokens(self, request: GenerationRequest) -> int:
        """Return how long a request's latent is: what its memory and most of its time grow with.

        Raises:
            RequestInvalidError: the variant cannot make that duration.
        """
        return sequence_lengths(self.variant, request.duration_s).latent

    @torch.inference_mode()
    def encode(
        self, requests: Sequence[GenerationRequest], *, on_intermediate: IntermediateCallback | None = None
    ) -> Encoded:
        """Encode what the requests show and say.

        Raises:
            RequestInvalidError: there is none, or they cannot share a batch.
        """
        keys = {self.batch_key(request) for request in requests}
        if len(keys) != 1:
            raise RequestInvalidError(f"Got {len(requests)} requests of {len(keys)} kinds; a batch has one kind.")
        ((lengths, _, guided, _),) = keys
        flow = self._networks.flow
        features = self._features(requests, lengths, guided, on_intermediate)
        clip = torch.stack([_or_empty(own.clip, flow.empty_clip_feat, lengths.clip) for own in features])
        # A still picture does not move, so it has the learned empty features, as words alone have.
        sync = torch.stack([_or_empty(own.sync, flow.empty_sync_feat, lengths.sync) for own in features])
        text = torch.stack([own.text for own in features])
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
        emit = on_intermediate or _ignore
        for start, end in zip(noise[list(rows)], values, strict=True):
            emit("noise", start)
            emit("latent", end)
        samples = lengths.decoded_samples if exact else lengths.samples
        return Latents(len(requests), samples, values, tuple(rows))

    @torch.inference_mode()
    def vocode(
        self, latents: Latents, *, on_intermediate: IntermediateCallback | None = None
    ) -> list[np.ndarray | None]:
        """Return each request's waveform, float32 (samples,), in [-1, 1]; None for those that left the batch."""
        emit = on_intermediate or _ignore
        waveforms: list[np.ndarray | None] = [None] * latents.batch_size
        for row, value in zip(latents.rows, latents.values, strict=True):
            latent = self._networks.flow.denormalise(value[None]).to(self._dtype)
            mel = self._networks.vae.decode(latent)
            waveform = self._networks.vocoder(mel)[0, 0, : latents.samples]
            waveforms[row] = waveform.float().cpu().numpy()
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
        """Do all three steps; `on_stage` is told `encode`, `sample` and `vocode` as they begin.

        `on_intermediate` is told what every stage gave: see `intermediates.IntermediateRecorder`.
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
        """Return each request's features. What is known is taken; what several show or say is encoded once."""
        encoded: dict[Hashable, Tensor] = {}

        def once(known: Tensor | None, key: Hashable, encode: Callable[[], Tensor]) -> Tensor:
            if known is not None:
                return known.to(self.device, self._dtype)
            if key not in encoded or on_intermediate is not None:  # who records wants to see every request's own
                encoded[key] = encode()
            return encoded[key]

        def text(known: Tensor | None, name: str, words: str | None) -> Tensor:
            features = once(known, words, lambda: self._text_features(words))
            emit(name, features)
            return features

        emit = on_intermediate or _ignore
        found = []
        for request in requests:
            known, video, image = request.features, request.video, request.image
            clip = sync = negative = None
            if not request.mask_away_clip and (known.clip is not None or video is not None or image is not None):
                key = ("clip", id(video), id(image))
                clip = once(known.clip, key, lambda r=request: self._clip_features(r, lengths, emit))
            if known.sync is not None or video is not None:
                key = ("sync", id(video))
                sync = once(known.sync, key, lambda r=request: self._sync_features(r, lengths, emit))
            if guided:
                negative = text(known.negative_text, "negative_text_features", request.negative_prompt)
            prompt = text(known.text, "text_features", request.prompt)
            found.append(Features(clip, sync, prompt, negative))
        return tuple(found)

    def _empty_conditions(
        self, requests: Sequence[GenerationRequest], features: Sequence[Features], lengths: SequenceLengths
    ) -> Conditions:
        """Return what guidance pushes away from: lengths and negative prompt make it, and most requests share both."""
        flow, rows = self._networks.flow, []
        for request, own in zip(requests, features, strict=True):
            key = (lengths, request.negative_prompt)
            if key not in self._empty:
                self._empty[key] = flow.prepare(
                    flow.empty_clip_feat.expand(1, lengths.clip, -1),
                    flow.empty_sync_feat.expand(1, lengths.sync, -1),
                    own.negative_text[None],
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
        """Return (T, clip_dim) of a video, (1, clip_dim) of a picture."""
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
        seen = torch.tensor(segment_frames(self.variant, lengths.sync), device=self.device)  # (segments, 16)
        frames = self._pixels(request.video.sync, max(int(seen.max()) + 1, len(request.video.sync))) * 2 - 1
        features = self._networks.sync(frames.to(self._dtype)[seen]).flatten(0, 1)
        emit("sync_frames", frames)
        emit("sync_features", features)
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


def _or_empty(features: Tensor | None, empty: Tensor, count: int) -> Tensor:
    """Return (count, width); one feature stands for all of them."""
    return (empty if features is None else features).expand(count, -1)


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
    """Say whether CLIP reads only the beginning of a text."""
    words = tokenizer().encode(text)
    return len(words) > 75
