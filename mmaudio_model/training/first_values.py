"""First values of networks that are trained from nothing: by seed, and so that the network starts near the identity."""

from __future__ import annotations

import torch
from torch import nn

from mmaudio_model.checkpoints.seeded import fill_from_seed
from mmaudio_model.networks.flow import FinalLayer, FlowNetwork, StreamBlock


def give_first_values(module: nn.Module, part: str) -> None:
    """Fill a network that is to be trained."""
    fill_from_seed(module, part)
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
