"""Low-rank adapters of the flow network (Hu et al. 2021, arXiv 2106.09685), made, kept and merged by peft.

peft and what it brings take seconds to import, and are in the `train` extra alone: they are imported when used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio_model.errors import TrainingDataError
from mmaudio_model.networks.flow import FlowNetwork
from mmaudio_model.variants import Variant

if TYPE_CHECKING:
    from peft import PeftModel

TARGETS = r"(joint_blocks|fused_blocks)\..*\.(qkv|linear1|w1|w2|w3|adaLN_modulation\.1)"
"""Every linear map and convolution of the blocks; not the projections of the features, nor the final layer."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def add_adapter(flow: FlowNetwork, variant: Variant, rank: int) -> PeftModel:
    """Put an adapter into a flow network, in place; only the adapter is trainable afterwards.

    It starts as nothing: the network computes what it did before.

    Raises:
        TrainingDataError: peft is not installed.
    """
    _require_peft()
    from peft import LoraConfig, get_peft_model

    # alpha = rank: the adapter's size does not change with its rank, so one learning rate serves all.
    model = get_peft_model(flow, LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))
    model.peft_config["default"].base_model_name_or_path = _base_name(variant)
    return model


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write an adapter as peft does: its configuration and its tensors."""
    # Else peft asks the hub whether the base model's vocabulary has grown.
    model.save_pretrained(str(folder), save_embedding_layers=False)


def merge_adapter(flow: FlowNetwork, variant: Variant, folder: Path) -> FlowNetwork:
    """Add an adapter's changes to a flow network's own weights.

    Raises:
        TrainingDataError: peft is not installed, there is no adapter, or it is another variant's.
    """
    _require_peft()
    from peft import PeftConfig, PeftModel

    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise TrainingDataError(f"Got {folder}, which holds no {missing[0]}; give the folder of an adapter.")
    try:
        base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
        if base != _base_name(variant):
            raise TrainingDataError(f"The adapter in {folder} is one of {base}, not of {_base_name(variant)}.")
        return PeftModel.from_pretrained(flow, str(folder)).merge_and_unload()
    except (ValueError, TypeError, RuntimeError) as exc:  # peft and torch say so what does not fit
        raise TrainingDataError(f"The adapter in {folder} does not fit {variant.name}: {exc}") from exc


def _base_name(variant: Variant) -> str:
    return f"mmaudio_{variant.name}"


def _require_peft() -> None:
    try:
        import peft  # noqa: F401  # only whether it is there
    except ModuleNotFoundError as exc:
        raise TrainingDataError(
            f"LoRA needs {exc.name}, which is not installed. Install it with: pip install 'mmaudio-platform[train]'"
        ) from exc
