"""All sizes of the model as data. A variant is a frozen value from which the networks take their sizes.

Imports no torch: the CLI lists variants, and workers register them, before torch is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from mmaudio_model.errors import UnknownVariantError

TEXT_TOKENS = 77
CLIP_FPS = 8
SYNC_FPS = 25
SEGMENT_FRAMES = 16
"""Frames per segment of the synchronisation encoder."""
SEGMENT_STRIDE = 8
SEGMENT_TOKENS = 8


@dataclass(frozen=True)
class VaeSizes:
    """1-D VAE between log-mel spectrogram and latent."""

    base_width: int
    width_factors: tuple[int, ...] = (1, 2, 4)
    encoder_blocks: int = 2


@dataclass(frozen=True)
class VocoderSizes:
    """BigVGAN: rates and kernels of the upsampling stages, their residual blocks, and the output layer.

    Each stage ends in the mean of one residual block per entry of `block_kernels`, each with a pair of convolutions per
    dilation.
    """

    initial_channels: int
    rates: tuple[int, ...]
    kernels: tuple[int, ...]
    bias_at_final: bool
    tanh_at_final: bool
    block_kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)


@dataclass(frozen=True)
class AudioMode:
    """The representation of sound: sample rate in Hz, hop in samples, mel bands, latent channels."""

    name: str
    sample_rate_hz: int
    n_fft: int
    hop: int
    mel_bands: int
    mel_max_hz: int
    log10_mel: bool
    latent_channels: int
    vae: VaeSizes
    vocoder: VocoderSizes


@dataclass(frozen=True)
class FlowSizes:
    """Flow transformer. The width is 64 per head; `v2` selects the second form of projections and time embedding."""

    heads: int
    joint_blocks: int
    fused_blocks: int
    v2: bool = False
    clip_dim: int = 1024
    sync_dim: int = 768
    text_dim: int = 1024

    @property
    def width(self) -> int:
        return 64 * self.heads


@dataclass(frozen=True)
class ClipSizes:
    """CLIP image and text towers, with the names of open_clip's configuration."""

    frame_size: int = 384
    """Side in pixels of the square that frames are resized to."""
    image_size: int = 378
    patch_size: int = 14
    embed_dim: int = 1024
    vision_width: int = 1280
    vision_layers: int = 32
    vision_head_width: int = 80
    text_width: int = 1024
    text_layers: int = 24
    text_heads: int = 16


@dataclass(frozen=True)
class SyncSizes:
    """Synchformer's visual encoder."""

    frame_size: int = 224
    patch_size: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    token_a_frame: bool = False
    """Each token covers one frame and the next and stands for the time between them (docs/adr/0004). As published, the
    eight tokens of a segment cover sixteen frames and stand for about the time of eight."""


@dataclass(frozen=True)
class Variant:
    """One size of the model and its limits. Durations in seconds."""

    name: str
    mode: AudioMode
    flow: FlowSizes
    licence: str
    clip: ClipSizes = field(default=ClipSizes())
    sync: SyncSizes = field(default=SyncSizes())
    bundled: bool = False
    """Weights ship with the package (`checkpoints/bundled`), made by `mmaudio train world`; nothing is downloaded."""
    default_duration_s: float = 8.0
    min_duration_s: float = 0.32
    max_duration_s: float = 30.0
    note: str | None = None

    @property
    def sample_rate_hz(self) -> int:
        return self.mode.sample_rate_hz


MODE_16K = AudioMode(
    name="16k",
    sample_rate_hz=16_000,
    n_fft=1024,
    hop=256,
    mel_bands=80,
    mel_max_hz=8_000,
    log10_mel=True,
    latent_channels=20,
    vae=VaeSizes(base_width=384),
    vocoder=VocoderSizes(
        1536, rates=(4, 4, 2, 2, 2, 2), kernels=(8, 8, 4, 4, 4, 4), bias_at_final=True, tanh_at_final=True
    ),
)
MODE_44K = AudioMode(
    name="44k",
    sample_rate_hz=44_100,
    n_fft=2048,
    hop=512,
    mel_bands=128,
    mel_max_hz=22_050,
    log10_mel=False,
    latent_channels=40,
    vae=VaeSizes(base_width=512),
    vocoder=VocoderSizes(
        1536, rates=(8, 4, 2, 2, 2, 2), kernels=(16, 8, 4, 4, 4, 4), bias_at_final=False, tanh_at_final=False
    ),
)
MODE_TINY_16K = AudioMode(
    name="tiny_16k",
    sample_rate_hz=16_000,
    n_fft=1024,
    hop=256,
    mel_bands=80,
    mel_max_hz=8_000,
    log10_mel=True,
    latent_channels=20,
    # As wide as the number of mel bands at all levels: a narrow first level cannot localise moving spectral lines.
    vae=VaeSizes(base_width=80, width_factors=(1, 1, 1)),
    # One stage at the frame rate, then two large steps; `training/initialisation` makes it an additive synthesiser.
    vocoder=VocoderSizes(
        256,
        rates=(1, 16, 16),
        kernels=(3, 32, 64),
        bias_at_final=True,
        tanh_at_final=True,
        block_kernels=(3,),
        dilations=(1, 3),
    ),
)

NONCOMMERCIAL = "CC-BY-NC-4.0"

_ALL = (
    Variant(
        name="tiny_16k",
        mode=MODE_TINY_16K,
        flow=FlowSizes(heads=2, joint_blocks=2, fused_blocks=2, clip_dim=64, sync_dim=128, text_dim=32),
        clip=ClipSizes(
            frame_size=96,
            image_size=96,
            patch_size=16,
            embed_dim=64,
            vision_width=128,
            vision_layers=3,
            vision_head_width=64,
            text_width=32,  # three quarters of this tower's weights are the vocabulary
            text_layers=2,
            text_heads=2,
        ),
        sync=SyncSizes(frame_size=80, width=128, layers=2, heads=2, token_a_frame=True),
        licence="MIT",
        bundled=True,
        note="a small demonstration model: it knows 13 sound classes of synthetic scenes, no real footage",
    ),
    Variant("small_16k", MODE_16K, FlowSizes(heads=7, joint_blocks=4, fused_blocks=8), NONCOMMERCIAL),
    Variant("small_44k", MODE_44K, FlowSizes(heads=7, joint_blocks=4, fused_blocks=8), NONCOMMERCIAL),
    Variant("medium_44k", MODE_44K, FlowSizes(heads=14, joint_blocks=4, fused_blocks=8), NONCOMMERCIAL),
    Variant("large_44k", MODE_44K, FlowSizes(heads=14, joint_blocks=7, fused_blocks=14), NONCOMMERCIAL),
    Variant("large_44k_v2", MODE_44K, FlowSizes(heads=14, joint_blocks=7, fused_blocks=14, v2=True), NONCOMMERCIAL),
)

VARIANTS = MappingProxyType({variant.name: variant for variant in _ALL})


def get_variant(name: str) -> Variant:
    """Return the variant of that name.

    Raises:
        UnknownVariantError: there is none.
    """
    try:
        return VARIANTS[name]
    except KeyError as exc:
        raise UnknownVariantError(f"Got variant {name!r}; there are {', '.join(VARIANTS)}.") from exc
