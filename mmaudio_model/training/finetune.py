"""Fine-tuning of a variant's flow network from its checkpoint, in full or with a LoRA adapter, on prepared clips.

A run is a folder: `features/`, `flow/` (the training loop's), and the result: `weights/`, usable as `--weights`, or
`adapter/`. All other networks stay as published.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from mmaudio_model.checkpoints.bundled import bundled_file
from mmaudio_model.checkpoints.files import find_file, require_file
from mmaudio_model.checkpoints.loading import fill_from_file, load_bundled_part, load_networks
from mmaudio_model.checkpoints.parts import new_network, part_sources
from mmaudio_model.checkpoints.published import FLOW, needed_files
from mmaudio_model.errors import TrainingDataError
from mmaudio_model.networks.flow import FlowNetwork
from mmaudio_model.training.data.clip import ClipShape
from mmaudio_model.training.data.prepare import read_shape
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.export import export_parts, load_whole_vae, write_checkpoint
from mmaudio_model.training.features import Encoders, extract_features
from mmaudio_model.training.loop import Trainer
from mmaudio_model.training.lora import add_adapter, merge_adapter, save_adapter
from mmaudio_model.training.options import TrainOptions
from mmaudio_model.training.processes import barrier, is_main_process, rank_and_world_size
from mmaudio_model.training.task import Losses
from mmaudio_model.training.tasks.flow import FlowTask
from mmaudio_model.variants import Variant

PLAN = "plan.json"
FEATURES, RUN, WEIGHTS, ADAPTER = "features", "flow", "weights", "adapter"
KEPT_AS_PUBLISHED = frozenset({"latent_mean", "latent_std", "empty_string_feat", "empty_clip_feat", "empty_sync_feat"})
"""Latent statistics and the embeddings of absent conditions: changing them would invalidate the pretrained network."""

OnProgress = Callable[[str, int, int], None]
"""Called with (name of the phase, done, total)."""


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning run.

    Attributes:
        clips: folder made by `mmaudio train prepare` for this variant.
        folder: of the run; finished work in it is not repeated.
        weights_dir: folder of the checkpoints; None: the Hugging Face cache.
        lora_rank: of the adapter; None: train the whole network.
    """

    variant: Variant
    clips: Path
    folder: Path
    options: TrainOptions
    weights_dir: Path | None = None
    lora_rank: int | None = None

    @property
    def result(self) -> Path:
        return self.folder / (WEIGHTS if self.lora_rank is None else ADAPTER)


def fine_tune(plan: FineTuning, *, device: str, on_progress: OnProgress, resume_from: Path | None = None) -> Losses:
    """Run the fine-tuning in each process of the group; return the validation losses.

    Raises:
        TrainingDataError: the clips do not fit the variant, or the folder holds another run.
        WeightsMissingError, WeightsMismatchError: see `checkpoints.loading`.
    """
    clips, shape = Shards(plan.clips), read_shape(plan.clips)
    wanted = ClipShape.of(plan.variant, shape.duration_s)
    if shape != wanted:
        raise TrainingDataError(
            f"{plan.clips} holds {shape}; {plan.variant.name} needs {wanted}. "
            "Run `mmaudio train prepare` for this variant."
        )
    if is_main_process():
        _claim_folder(plan)
    barrier()
    _make_features(plan, clips, shape, device, on_progress)
    flow = load_flow(plan.variant, plan.weights_dir)
    adapted = None if plan.lora_rank is None else add_adapter(flow, plan.variant, plan.lora_rank)
    task = FlowTask(plan.variant, Shards(plan.folder / FEATURES), flow=flow)
    trainer = Trainer(
        task,
        plan.options,
        plan.folder / RUN,
        device=device,
        resume_from=resume_from,
        on_step=lambda step: on_progress("flow", step, plan.options.steps),
    )
    losses = trainer.run()
    if is_main_process():
        # The averaged weights are the result; only peft's own object can save the adapter.
        flow.load_state_dict(trainer.average.module.get_submodule("flow").state_dict())
        if adapted is not None:
            save_adapter(adapted, plan.result)
        else:
            how = f"fine-tuned on {len(clips)} clips, {trainer.step} steps"
            export_flow(flow, plan.variant, plan.weights_dir, plan.result, trained=how)
    barrier()
    return losses


def merge(variant: Variant, adapter: Path, weights_dir: Path | None, out: Path) -> None:
    """Merge an adapter into the flow network and write it to a folder usable as `--weights`.

    Raises:
        TrainingDataError: see `lora.merge_adapter`.
        WeightsMissingError, WeightsMismatchError: see `checkpoints.loading`.
    """
    flow = merge_adapter(load_flow(variant, weights_dir), variant, adapter)
    export_flow(flow, variant, weights_dir, out, trained=f"merged from the adapter {adapter.resolve().name}")


def load_flow(variant: Variant, weights_dir: Path | None) -> FlowNetwork:
    """Return a variant's flow network, float32; all but `KEPT_AS_PUBLISHED` is trainable.

    Raises:
        WeightsMissingError, WeightsMismatchError: see `checkpoints.loading`.
    """
    if variant.bundled:
        flow = load_bundled_part(variant, "flow", bundled_file(variant, "flow", weights_dir))
    else:
        source = part_sources(variant)["flow"]
        flow = new_network(variant, "flow", device="meta")
        fill_from_file(flow, source, require_file(source.file, variant, weights_dir))
    assert isinstance(flow, FlowNetwork)
    for name, parameter in flow.named_parameters():
        parameter.data = parameter.data.clone()  # a copy, since loaded tensors are mapped from the file
        parameter.requires_grad_(name not in KEPT_AS_PUBLISHED)
    return flow


def load_encoders(variant: Variant, weights_dir: Path | None, device: str) -> Encoders:
    """Return the frozen feature extractors.

    Raises:
        WeightsMissingError, WeightsMismatchError: see `checkpoints.loading`.
    """
    import torch

    parts = ("clip_image", "clip_text", "sync")
    networks = load_networks(variant, weights_dir=weights_dir, device=device, dtype=torch.float32, parts=parts)
    vae = load_whole_vae(variant, weights_dir).to(device)
    return Encoders(variant, vae, networks.clip_image, networks.clip_text, networks.sync, device)


def export_flow(flow: nn.Module, variant: Variant, weights_dir: Path | None, out: Path, *, trained: str) -> None:
    """Write a flow network in its checkpoint's layout below `out`, with links to the other networks' files.

    Args:
        weights_dir: folder of the checkpoint it was fine-tuned from.
        trained: how it was trained, for the metadata.
    """
    if variant.bundled:
        export_parts(nn.ModuleDict({"flow": flow}), {"flow": "flow"}, variant, out, trained=trained)
        return
    base = FLOW[variant.name]
    state: dict[str, Tensor] = dict(flow.state_dict())
    write_checkpoint(out / base.path, state, like=require_file(base, variant, weights_dir))
    note = {"variant": variant.name, "trained": trained, "licence": variant.licence}
    (out / base.path).with_suffix(".json").write_text(json.dumps(note, indent=1))
    for file in needed_files(variant):
        found, link = find_file(file, weights_dir), out / file.path
        # Files in the Hugging Face cache need no link.
        if weights_dir is not None and found == weights_dir / file.path and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(found.resolve())


def _make_features(plan: FineTuning, clips: Shards, shape: ClipShape, device: str, on_progress: OnProgress) -> None:
    """Extract this process's share of the features; the encoders are loaded only if some are missing."""
    folder = plan.folder / FEATURES
    there = len(Shards(folder)) if any(folder.glob("*/shard.json")) else 0
    barrier()  # otherwise a slow process might count shards that a fast one has just written
    if there < len(clips):
        encoders = load_encoders(plan.variant, plan.weights_dir, device)
        extract_features(
            clips,
            shape.duration_s,
            encoders,
            folder,
            share=rank_and_world_size(),
            on_clips=lambda done, total: on_progress("features", done, total),
        )
    barrier()


def _claim_folder(plan: FineTuning) -> None:
    """Reserve the folder for this run; refuse one that holds a run with another variant, clips or rank."""
    wanted = {"variant": plan.variant.name, "clips": str(plan.clips.resolve()), "lora_rank": plan.lora_rank}
    path = plan.folder / PLAN
    if path.exists():
        got = json.loads(path.read_text())
        if got != wanted:
            raise TrainingDataError(f"{plan.folder} holds the run {got}, not {wanted}; choose another folder.")
        return
    plan.folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(wanted))
