"""Training of CLIP's two towers with the contrastive loss (Radford et al. 2021, arXiv 2103.00020).

The model uses the token states, not a pooled text feature, so the projection and the temperature that the loss needs
exist only during training; those in the published files are unused.
"""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmaudio_model.networks.clip import MEAN, STD, ImageTower, TextTower
from mmaudio_model.networks.tokenizer import tokenizer
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.initialisation.defaults import initialise
from mmaudio_model.training.task import Batch, Draw, Losses, draw_clips
from mmaudio_model.variants import Variant

FIRST_TEMPERATURE, SHARPEST = 0.07, 0.01
BRIGHTNESS = 0.2
"""Pictures are brightened or darkened by up to this share."""


class ClipTraining(nn.Module):
    """Forward returns the losses of a batch of pictures and their captions."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        sizes = variant.clip
        self.image, self.text = ImageTower(sizes), TextTower(sizes)
        initialise(self.image, "clip_image")
        initialise(self.text, "clip_text")
        self.text.token_embedding.weight.requires_grad_(True)
        self.text_projection = nn.Parameter(torch.randn(sizes.text_width, sizes.embed_dim) / sizes.text_width**0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / FIRST_TEMPERATURE)))
        self.mean = nn.Buffer(torch.tensor(MEAN)[:, None, None], persistent=False)
        self.std = nn.Buffer(torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, batch: Batch) -> Losses:
        pictures = batch["pictures"].permute(0, 3, 1, 2).float() / 255 * batch["brightness"][:, None, None, None]
        images = F.normalize(self.image((pictures.clamp(max=1.0) - self.mean) / self.std).float(), dim=-1)
        tokens = batch["tokens"]
        states = self.text(tokens)
        # The state of the end token has attended to all tokens; it has the largest id.
        ends = states[torch.arange(len(tokens), device=tokens.device), tokens.argmax(-1)]
        words = F.normalize((ends @ self.text_projection).float(), dim=-1)
        logits = images @ words.T * self.logit_scale.clamp(max=math.log(1 / SHARPEST)).exp()
        # Clips of a batch with identical captions are all positives.
        same = (tokens[:, None] == tokens[None]).all(-1).float()
        wanted = same / same.sum(-1, keepdim=True)
        loss = 0.5 * (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted))
        right = same.gather(1, logits.argmax(-1, keepdim=True)).mean()
        return {"loss": loss, "right": right.detach()}


class ClipTask:
    """Trains both towers on one random frame and one random caption of each clip."""

    parts = MappingProxyType({"clip_image": "image", "clip_text": "text"})

    def __init__(self, variant: Variant, shards: Shards) -> None:
        self._shards, self._tokenizer = shards, tokenizer()
        self.module = ClipTraining(variant)

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch:
        indices = draw_clips(self._shards, draw, size, validation=validation)
        pictures, captions = [], []
        for index in indices:
            frames = self._shards.get("clip_frames", index)
            pictures.append(np.array(frames[int(draw.numpy.integers(len(frames)))]))
            captions.append(draw_caption(self._shards, index, draw))
        brightness = draw.numpy.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS, size).astype(np.float32)
        return {
            "pictures": torch.from_numpy(np.stack(pictures)),
            "tokens": self._tokenizer(captions),
            "brightness": torch.from_numpy(brightness),
        }


def draw_caption(shards: Shards, index: int, draw: Draw) -> str:
    """Return a random caption of the clip; empty if it has none."""
    captions = shards.lines[index]["captions"] or [""]
    return str(captions[int(draw.numpy.integers(len(captions)))])
