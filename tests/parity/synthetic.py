"""Synthetic weights in the published layout: every tensor follows from its key, its shape and one seed.

The rules keep activations of healthy size through each network. They are part of the test vectors: another rule, and
the recorded outputs mean nothing.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio_model.networks.vocoder import antialias_filter
from tests.parity.vectors import DATA

SEED = 1000


def by_fan_in(gain: float) -> Callable[[Sequence[int]], float]:
    return lambda shape: gain / math.sqrt(math.prod(shape[1:]))


@dataclass(frozen=True)
class Rule:
    """Keys that match the pattern are `offset + scale * randn`; the first rule that matches counts."""

    pattern: str
    offset: float
    scale: float | Callable[[Sequence[int]], float]


FLOW = (
    Rule(r"^latent_mean$", 0, 0.5),
    Rule(r"^sync_pos_emb$", 0, 0.3),
    Rule(r"^empty_(string|clip)_feat$", 0, 1 / 32),
    Rule(r"^empty_sync_feat$|^(clip|text)_input_proj\.0\.weight$", 0, 1),
    Rule(r"\.[qk]_norm\.weight$", 1.3, 0.1),
    Rule(r"adaLN_modulation.*weight$", 0, by_fan_in(0.5)),
    Rule(r"adaLN_modulation.*bias$", 0, 0.2),
    Rule(r"bias$", 0, 0.05),
    Rule(r"", 0, by_fan_in(1)),
)
VAE = (Rule(r"learnable_gain$", 0, 0.1), Rule(r"", 0, 1))
SYNCHFORMER = (
    Rule(r"(cls_token|pos_embed|temp_embed)$", 0, 0.02),
    Rule(r"norm.*\.weight$", 1, 0.1),
    Rule(r"norm", 0, 0.05),
    Rule(r"patch_embed.*weight$", 0, by_fan_in(0.2)),
    Rule(r"patch_embed", 0, 0.02),
    Rule(r"bias$", 0, 0.05),
    Rule(r"qkv|in_proj", 0, by_fan_in(1.3)),
    Rule(r"", 0, by_fan_in(1)),
)
CLIP = (
    Rule(r"^logit_scale$", math.log(100), 0),
    Rule(r"^token_embedding\.weight$", 0, 0.02),
    Rule(r"^positional_embedding$", 0, 0.01),
    Rule(r"^visual\.(class|positional)_embedding$", 0, 0.03),
    Rule(r"^(visual\.proj|text_projection)$", 0, lambda shape: 1 / math.sqrt(shape[0])),
    Rule(r"(^|\.)ln_.*weight$", 1, 0.1),
    Rule(r"(^|\.)ln_", 0, 0.05),
    Rule(r"bias$", 0, 0.05),
    Rule(r"in_proj", 0, by_fan_in(1.3)),
    Rule(r"", 0, by_fan_in(1)),
)


def vocoder_rules(up_kernels: Sequence[int], mel_rms: float, last_gain: float) -> tuple[Rule, ...]:
    ups = [
        Rule(rf"^ups\.{stage}\..*weight_g$", math.sqrt(kernel) / 2, 0.1 * math.sqrt(kernel) / 2)
        for stage, kernel in enumerate(up_kernels)
    ]
    return (
        Rule(r"weight_v$", 0, 0.05),
        Rule(r"^conv_pre\.weight_g$", 1 / mel_rms, 0.1 / mel_rms),
        *ups,
        Rule(r"^conv_post\.weight_g$", last_gain, 0.1 * last_gain),
        Rule(r"weight_g$", 0.5, 0.05),
        Rule(r"\.(alpha|beta)$", 0, 0.3),
        Rule(r"", 0, 0.02),
    )


RULES = {
    "flow": FLOW,
    "vae": VAE,
    "vocoder16": vocoder_rules((8, 8, 4, 4, 4, 4), mel_rms=2.0, last_gain=0.12),
    "vocoder44": vocoder_rules((16, 8, 4, 4, 4, 4), mel_rms=5.0, last_gain=0.08),
    "synchformer": SYNCHFORMER,
    "clip": CLIP,
}


def synthetic_state(manifest: str, *, prefix: str = "", others: str | None = None) -> dict[str, Tensor]:
    """Return a published file's tensors, float32: those with the prefix, which is cut off, and not with the other."""
    content = json.loads((DATA / "manifests" / f"{manifest}.json").read_text())
    rules = RULES[content["component"]]
    return {
        entry["key"].removeprefix(prefix): _tensor(entry, rules)
        for entry in content["tensors"]
        if entry["key"].startswith(prefix) and not (others is not None and entry["key"].startswith(others))
    }


def _tensor(entry: dict, rules: tuple[Rule, ...]) -> Tensor:
    key, shape = entry["key"], entry["shape"]
    if "values" in entry:
        return torch.tensor(entry["values"], dtype=torch.float32).view(shape)
    if key.endswith("filter"):
        return antialias_filter().view(shape)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode()) + SEED))
    if key == "latent_std":
        return 0.8 * torch.exp(0.25 * noise)
    rule = next(rule for rule in rules if re.search(rule.pattern, key))
    scale = rule.scale(shape) if callable(rule.scale) else rule.scale
    return noise.mul_(scale).add_(rule.offset)
