"""Low-rank adapters of the flow network (Hu et al. 2021, arXiv 2106.09685), by peft.

peft takes seconds to import and is only in the `train` extra, so it is imported when used.
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
"""Every linear layer and convolution of the blocks; not the feature projections or the final layer."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def add_adapter(flow: FlowNetwork, variant: Variant, rank: int) -> PeftModel:
    """Put an adapter into a flow network, in place; only the adapter is trainable afterwards.

    Its initial output is zero: the network computes what it did before.

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
    """Write an adapter in peft's format: configuration and tensors."""
    # Otherwise peft queries the Hugging Face hub for the base model's vocabulary.
    model.save_pretrained(str(folder), save_embedding_layers=False)


def merge_adapter(flow: FlowNetwork, variant: Variant, folder: Path) -> FlowNetwork:
    """Merge an adapter into the weights of a flow network.

    Raises:
        TrainingDataError: peft is not installed, or the folder has no adapter or one of another variant.
    """
    _require_peft()
    from peft import PeftConfig, PeftModel

    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise TrainingDataError(f"Got {folder}, which has no {missing[0]}; give the folder of an adapter.")
    try:
        base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
        if base != _base_name(variant):
            raise TrainingDataError(f"The adapter in {folder} was trained for {base}, not for {_base_name(variant)}.")
        result: FlowNetwork = PeftModel.from_pretrained(flow, str(folder)).merge_and_unload()
        return result
    except (ValueError, TypeError, RuntimeError) as exc:  # raised by peft and torch for tensors that do not fit
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
