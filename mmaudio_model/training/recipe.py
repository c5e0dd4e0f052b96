"""The recipe for training a bundled variant from scratch on the procedural world: which network when, for how long.

A run is a folder: `clips/`, a folder per network, `features/`, and `weights/`, usable as `--weights`. Each phase writes
its result there, so an interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from mmaudio_model.checkpoints.bundled import SUFFIX, trained_file
from mmaudio_model.checkpoints.loading import load_bundled_part
from mmaudio_model.networks.clip import ImageTower, TextTower
from mmaudio_model.networks.synchformer import SynchformerVisual
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
"""In training order: the vocoder is trained on VAE output, the flow network needs all but the vocoder."""
DURATION_S = 8.0
OnProgress = Callable[[str, int, int], None]
"""Called with (name of the phase, done, total)."""


@dataclass(frozen=True)
class Recipe:
    """Number of clips and the options of each network.

    Attributes:
        flow_clips: number of clips whose features are extracted to train the flow network.
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
"""Takes about two hours on two CPU cores; docs/training.md has the results."""
SMOKE = Recipe(
    clips=50,
    flow_clips=50,
    duration_s=1.28,
    options={
        part: replace(
            TINY.options[part],
            steps=steps,
            batch_size=batch_size,
            warmup_steps=4,
            precision="fp32",
            ema_decay=0.8,
            log_every=10,
        )
        for part, steps, batch_size in (
            ("vae", 14, 2),
            ("sync", 12, 2),
            ("clip", 25, 2),
            ("vocoder", 56, 2),
            ("flow", 24, 4),
        )
    },
)
"""Takes about a minute on a CPU; shows that every network learns. The least number of clips with one held out."""


class RecipeRun:
    """A recipe in a folder, for one variant."""

    def __init__(
        self, variant: Variant, recipe: Recipe, folder: Path, *, processes: int, on_progress: OnProgress
    ) -> None:
        self.variant, self.recipe, self.folder = variant, recipe, folder
        self._processes, self._on_progress = processes, on_progress

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    def run(self, parts: tuple[str, ...] = PARTS) -> None:
        """Prepare what these networks need and train them, in order; finished work is not repeated.

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
            on_shard=partial(self._on_progress, "clips"),
        )

    def train(self, part: str) -> None:
        options = self.recipe.options[part]
        # Layers that exist only in training (a head, a projection) are initialised from torch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            task, sample = self._task(part)
        trainer = Trainer(
            task,
            options,
            self.folder / part,
            on_validation=sample,
            on_step=lambda step: self._on_progress(part, step, options.steps),
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
            on_clips=partial(self._on_progress, "features"),
        )

    def _task(self, part: str) -> tuple[TrainingTask, Callable[[torch.nn.Module, int], None] | None]:
        if part == "flow":
            encoders, features = self._encoders(), Shards(self.folder / "features")
            flow_task = FlowTask(self.variant, features, empty_text=encoders.text([""])[0])
            vocoder = self.weights / self.variant.name / f"vocoder{SUFFIX}"
            if not vocoder.exists():
                return flow_task, None
            return flow_task, flow_samples(self.variant, features, self.weights, self.folder / "flow")
        clips = self._clips()
        if part == "vocoder":
            vocoder_task = VocoderTask(self.variant, clips, self._vae())
            return vocoder_task, vocoder_samples(self.variant, clips, self.folder / "vocoder")
        tasks: dict[str, Callable[[Variant, Shards], TrainingTask]] = {
            "vae": VaeTask,
            "sync": SyncTask,
            "clip": ClipTask,
        }
        return tasks[part](self.variant, clips), None

    def _clips(self) -> Shards:
        return Shards(self.folder / "clips")

    def _vae(self) -> Vae:
        trained_file(self.variant, "vae", self.weights)  # fails if this run has none; the shipped one must not be used
        return load_whole_vae(self.variant, self.weights)

    def _encoders(self) -> Encoders:
        def load(part: str) -> torch.nn.Module:
            path = trained_file(self.variant, part, self.weights)
            return load_bundled_part(self.variant, part, path).eval().requires_grad_(False)

        image, text, sync = load("clip_image"), load("clip_text"), load("sync")
        assert isinstance(image, ImageTower)
        assert isinstance(text, TextTower)
        assert isinstance(sync, SynchformerVisual)
        return Encoders(self.variant, self._vae(), image, text, sync)


def _world_clip(name: str, *, shape: ClipShape) -> TrainingClip:
    return world_clip(int(name), shape)
