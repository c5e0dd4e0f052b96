"""Initial weights of networks that are trained from scratch: seeded, with residual branches scaled down."""

from __future__ import annotations

import torch
from torch import nn

from mmaudio_model.checkpoints.random_init import fill_from_seed
from mmaudio_model.networks.flow import FinalLayer, FlowNetwork, StreamBlock

BRANCH_ENDS = tuple(
    f"{name}.weight" for name in ("attn.proj", "timeattn.proj", "mlp.fc2", "attn.out_proj", "mlp.c_proj", "linear2")
)
"""The last layers of the encoders' residual branches."""
BRANCH_GAIN = 0.2
"""With branches at full scale, the random branches would drown the input signal before the last block."""
POSITION_EMBEDDINGS = ("pos_embed", "temp_embed", "positional_embedding", "cls_token", "sync_pos_emb")
POSITION_GAIN = 5.0
"""Position embeddings get a tenth of the scale of the tokens, so that attention can distinguish positions."""


@torch.no_grad()
def initialise(module: nn.Module, part: str) -> None:
    """Set the initial weights of a network that is trained from scratch."""
    fill_from_seed(module, part)
    for name, parameter in module.named_parameters():
        if name.endswith(BRANCH_ENDS):
            parameter.mul_(BRANCH_GAIN)
        elif name.endswith(POSITION_EMBEDDINGS):
            parameter.mul_(POSITION_GAIN)
    if isinstance(module, FlowNetwork):
        _start_as_identity(module)


@torch.no_grad()
def _start_as_identity(flow: FlowNetwork) -> None:
    """adaLN-Zero (Peebles and Xie 2023, arXiv 2212.09748): blocks start as the identity, the velocity as zero."""
    for block in flow.modules():
        if isinstance(block, StreamBlock | FinalLayer):
            for parameter in block.adaLN_modulation[1].parameters():
                parameter.zero_()
    for parameter in flow.final_layer.conv.parameters():
        parameter.zero_()
