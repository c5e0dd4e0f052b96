"""How a variant of our own is trained from nothing, on the procedural world: which part when, for how long.

A run is a folder: `clips/`, then a folder a part, `features/`, and `weights/`, which `--weights` takes. Each step
leaves its result there, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from mmaudio_model.checkpoints.bundled import SUFFIX, trained_file
from mmaudio_model.checkpoints.loading import load_bundled_part
from mmaudio_model.networks.vae import Vae
from mmaudio_model.training.data.clip import ClipShape, TrainingClip
from mmaudio_model.training.data.prepare import prepare
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.data.world_clips import world_clip
from mmaudio_model.training.export import export_parts, load_whole_vae
from mmaudio_model.training.features import Encoders, extract_features
from mmaudio_model.training.loop import Trainer
from mmaudio_model.training.options import TrainOptions
from mmaudio_model.training.samples import flow_samples, vocoder_samples
from mmaudio_model.training.task import TrainingTask
from mmaudio_model.training.tasks.clip import ClipTask
from mmaudio_model.training.tasks.flow import FlowTask
from mmaudio_model.training.tasks.sync import SyncTask
from mmaudio_model.training.tasks.vae import VaeTask
from mmaudio_model.training.tasks.vocoder import VocoderTask
from mmaudio_model.variants import Variant

PARTS = ("vae", "sync", "clip", "vocoder", "flow")
"""In the order they are trained: the vocoder hears what the VAE made, the flow network needs all but the vocoder."""
DURATION_S = 8.0
Tell = Callable[[str, int, int], None]
"""Told a step's name, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Recipe:
    """How many clips of the world, and each part's options.

    Attributes:
        flow_clips: how many of them have their features extracted, for the flow network.
    """

    clips: int
    flow_clips: int
    options: Mapping[str, TrainOptions]
    duration_s: float = DURATION_S


TINY = Recipe(
    clips=4096,
    flow_clips=2048,
    options={
        "vae": TrainOptions(3200, 16, 2e-3, precision="bf16", ema_decay=0.998),
        "sync": TrainOptions(2400, 8, 8e-4, precision="bf16", ema_decay=0.998),
        "clip": TrainOptions(1500, 64, 1.5e-3, precision="bf16", ema_decay=0.99),
        "vocoder": TrainOptions(1400, 8, 3e-4, warmup_steps=50, ema_decay=0.99, validate_every=200, save_every=200),
        "flow": TrainOptions(5000, 16, 1.5e-3, warmup_steps=50, precision="bf16", ema_decay=0.997),
    },
)
"""For an hour or two of two CPU cores; docs/training.md says how far it came."""
SMOKE = Recipe(
    clips=64,
    flow_clips=64,
    duration_s=2.56,
    options={
        part: replace(options, steps=steps, batch_size=8, warmup_steps=10, ema_decay=0.9, log_every=10)
        for (part, options), steps in zip(TINY.options.items(), (60, 40, 40, 60, 60), strict=True)
    },
)
"""Minutes on a CPU: shows that every part learns, not that it becomes good."""


class RecipeRun:
    """A recipe in a folder, for one variant."""

    def __init__(self, variant: Variant, recipe: Recipe, folder: Path, *, processes: int, tell: Tell) -> None:
        self.variant, self.recipe, self.folder = variant, recipe, folder
        self._processes, self._tell = processes, tell

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    def run(self, parts: tuple[str, ...] = PARTS) -> None:
        """Make what these parts need and train them, in order; what is done already is not done again.

        Raises:
            TrainingDataError: the folder holds a run of another variant or recipe.
        """
        self.make_clips()
        for part in (part for part in PARTS if part in parts):
            if part == "flow":
                self.make_features()
            self.train(part)

    def make_clips(self) -> None:
        shape = ClipShape.of(self.variant, self.recipe.duration_s)
        names = [str(seed) for seed in range(self.recipe.clips)]
        prepare(
            self.folder / "clips",
            names,
            partial(_world_clip, shape=shape),
            shape,
            processes=self._processes,
            on_shard=partial(self._tell, "clips"),
        )

    def train(self, part: str) -> None:
        options = self.recipe.options[part]
        # What a task has beside the network (a head, a projection) is drawn from torch's own generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            task, sample = self._task(part)
        trainer = Trainer(
            task,
            options,
            self.folder / part,
            on_validation=sample,
            on_step=lambda step: self._tell(part, step, options.steps),
        )
        trainer.run()
        how = f"procedural world, {self.recipe.clips} clips, {options.steps} steps of {options.batch_size}"
        export_parts(trainer.average.module, task.parts, self.variant, self.weights, trained=how)

    def make_features(self) -> None:
        extract_features(
            self._clips(),
            self.recipe.duration_s,
            self._encoders(),
            self.folder / "features",
            count=self.recipe.flow_clips,
            on_clips=partial(self._tell, "features"),
        )

    def _task(self, part: str) -> tuple[TrainingTask, Callable[[torch.nn.Module, int], None] | None]:
        if part == "flow":
            encoders, features = self._encoders(), Shards(self.folder / "features")
            task = FlowTask(self.variant, features, empty_text=encoders.text([""])[0])
            vocoder = self.weights / self.variant.name / f"vocoder{SUFFIX}"
            if not vocoder.exists():
                return task, None
            return task, flow_samples(self.variant, features, self.weights, self.folder / "flow")
        clips = self._clips()
        if part == "vocoder":
            task = VocoderTask(self.variant, clips, self._vae())
            return task, vocoder_samples(self.variant, clips, self.folder / "vocoder")
        return {"vae": VaeTask, "sync": SyncTask, "clip": ClipTask}[part](self.variant, clips), None

    def _clips(self) -> Shards:
        return Shards(self.folder / "clips")

    def _vae(self) -> Vae:
        trained_file(self.variant, "vae", self.weights)  # this run's own: the shipped one would be taken else
        return load_whole_vae(self.variant, self.weights)

    def _encoders(self) -> Encoders:
        def load(part: str) -> torch.nn.Module:
            path = trained_file(self.variant, part, self.weights)
            return load_bundled_part(self.variant, part, path).eval().requires_grad_(False)

        return Encoders(
            self.variant,
            self._vae(),
            load("clip_image"),
            load("clip_text"),
            load("sync"),
        )


def _world_clip(name: str, *, shape: ClipShape) -> TrainingClip:
    return world_clip(int(name), shape)
