"""First values of networks that are trained from nothing: by seed, and so that what goes in reaches the end."""

from __future__ import annotations

import torch
from torch import nn

from mmaudio_model.checkpoints.random_init import fill_from_seed
from mmaudio_model.networks.flow import FinalLayer, FlowNetwork, StreamBlock

BRANCH_ENDS = tuple(
    f"{name}.weight" for name in ("attn.proj", "timeattn.proj", "mlp.fc2", "attn.out_proj", "mlp.c_proj", "linear2")
)
"""The last maps of the encoders' residual branches."""
BRANCH_GAIN = 0.2
"""What is seen shall reach the last block: branches of full size would bury it under what chance makes of it."""
PLACES = ("pos_embed", "temp_embed", "positional_embedding", "cls_token", "sync_pos_emb")
PLACE_GAIN = 5.0
"""Embeddings that say where and when become a tenth of what they are added to, so that attention tells places apart."""


@torch.no_grad()
def initialise(module: nn.Module, part: str) -> None:
    """Fill a network that is to be trained."""
    fill_from_seed(module, part)
    for name, parameter in module.named_parameters():
        if name.endswith(BRANCH_ENDS):
            parameter.mul_(BRANCH_GAIN)
        elif name.endswith(PLACES):
            parameter.mul_(PLACE_GAIN)
    if isinstance(module, FlowNetwork):
        _start_as_identity(module)


@torch.no_grad()
def _start_as_identity(flow: FlowNetwork) -> None:
    """adaLN-Zero (Peebles and Xie 2023, arXiv 2212.09748): blocks add nothing at first, and the velocity is zero."""
    for block in flow.modules():
        if isinstance(block, StreamBlock | FinalLayer):
            last = block.adaLN_modulation[1]
            last.weight.zero_()
            last.bias.zero_()
    flow.final_layer.conv.weight.zero_()
    flow.final_layer.conv.bias.zero_()
