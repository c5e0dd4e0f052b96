"""The training loop on a task of nine weights: what a step does, and that stopping and going on changes nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmaudio_model.errors import TrainingDataError
from mmaudio_model.training.log import LOG, read_log
from mmaudio_model.training.loop import CHECKPOINT, FINAL_SHARE, Trainer, rate_at
from mmaudio_model.training.options import TrainOptions
from tests.training.line import LineTask, by_hand

OPTIONS = TrainOptions(
    steps=6,
    batch_size=4,
    learning_rate=0.05,
    warmup_steps=2,
    ema_decay=0.5,
    log_every=1,
    save_every=1,
    validate_every=3,
)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(folder: Path, options: TrainOptions = OPTIONS, **more: object) -> tuple[LineTask, Trainer]:
    task = LineTask()
    trainer = Trainer(task, options, folder, **more)
    trainer.run()
    return task, trainer


def stop_after(steps: int, folder: Path) -> None:
    """Train as OPTIONS says, and be killed."""

    class Killed(Exception):
        pass

    def kill(step: int) -> None:
        if step == steps:
            raise Killed

    with pytest.raises(Killed):
        Trainer(LineTask(), replace(OPTIONS, save_every=2), folder, on_step=kill).run()


def test_steps_are_those_of_adamw_with_warm_up_clipping_and_averaging(tmp_path: Path) -> None:
    task, trainer = trained(tmp_path)
    expected, average = by_hand(OPTIONS, ranks=1)

    assert same(weights(task.module), weights(expected))
    assert same(weights(trainer.average.module), weights(average))


def test_clipping_bounds_the_gradient_and_not_only_the_report(tmp_path: Path) -> None:
    options = replace(OPTIONS, clip_norm=1e-3)
    clipped, _ = trained(tmp_path, options)
    expected, _ = by_hand(options, ranks=1)

    assert same(weights(clipped.module), weights(expected))
    assert all(entry["norm"] > 1e-3 for entry in read_log(tmp_path, "train")), "the logged norm is the one before"


def test_the_rate_rises_over_the_warm_up_and_falls_along_a_cosine() -> None:
    options = TrainOptions(steps=110, batch_size=1, learning_rate=1.0, warmup_steps=10)

    assert [rate_at(step, options) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert rate_at(10, options) == 1.0
    assert rate_at(60, options) == pytest.approx((1 + FINAL_SHARE) / 2)
    assert rate_at(110, options) == pytest.approx(FINAL_SHARE)
    assert rate_at(0, replace(options, warmup_steps=0)) == 1.0


@pytest.mark.parametrize("stopped_after", [2, 3])
def test_a_run_that_was_killed_goes_on_to_the_very_same_weights(tmp_path: Path, stopped_after: int) -> None:
    whole, average = trained(tmp_path / "whole")
    stop_after(stopped_after, tmp_path / "stopped")
    resumed, resumed_average = trained(tmp_path / "stopped")

    assert same(weights(resumed.module), weights(whole.module))
    assert same(weights(resumed_average.average), weights(average.average))


def test_the_log_of_a_run_that_went_on_tells_every_step_once(tmp_path: Path) -> None:
    trained(tmp_path / "whole")
    stop_after(5, tmp_path / "stopped")  # after the checkpoint of step 4, having logged 5 or not
    with (tmp_path / "stopped" / LOG).open("a") as file:
        file.write('{"kind": "train", "ste')  # the power went
    trained(tmp_path / "stopped")

    def losses(folder: Path) -> list[tuple[float, float]]:
        return [(entry["step"], entry["loss"]) for entry in read_log(folder, "train")]

    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    assert [step for step, _ in losses(tmp_path / "whole")] == [1, 2, 3, 4, 5, 6]


def test_kept_checkpoints_can_each_be_gone_on_from(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole", replace(OPTIONS, keep_every=2))
    kept = sorted(path.name for path in (tmp_path / "whole").glob("step-*.pt"))
    assert kept == ["step-2.pt", "step-4.pt", "step-6.pt"]

    for name in kept[:2]:
        again, _ = trained(tmp_path / name, resume_from=tmp_path / "whole" / name)
        assert same(weights(again.module), weights(whole.module))


def test_the_loss_falls_and_validation_is_of_the_averaged_weights(tmp_path: Path) -> None:
    options = replace(OPTIONS, steps=60, validate_every=60)
    task, trainer = trained(tmp_path, options)
    first, last = read_log(tmp_path, "validation")

    assert first["step"] == 0
    assert last["step"] == 60
    assert last["loss"] < 0.1 * first["loss"]
    task.module.load_state_dict(trainer.average.module.state_dict())
    assert math.isclose(
        Trainer(task, options, tmp_path / "other").validate()["loss"].item(), last["loss"], rel_tol=1e-5
    )


def test_bf16_computes_coarsely_and_keeps_the_weights_fine(tmp_path: Path) -> None:
    task, _ = trained(tmp_path, replace(OPTIONS, precision="bf16"))

    assert task.module.seen == torch.bfloat16
    assert {value.dtype for value in task.module.parameters()} == {torch.float32}
    stored = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert {value.dtype for value in stored["module"].values()} == {torch.float32}


def test_what_is_frozen_stays_and_biases_do_not_decay(tmp_path: Path) -> None:
    task = LineTask()
    task.module.line.bias.requires_grad_(False)
    before = weights(task.module)
    Trainer(task, OPTIONS, tmp_path).run()
    assert torch.equal(task.module.line.bias, before["line.bias"])
    assert not torch.equal(task.module.line.weight, before["line.weight"])

    trainer = Trainer(LineTask(), replace(OPTIONS, weight_decay=0.3), tmp_path / "decay")
    decays = {len(group["params"][0].shape): group["weight_decay"] for group in trainer._optimizer.param_groups}
    assert decays == {2: 0.3, 1: 0.0}


def test_a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_weights(tmp_path: Path) -> None:
    task = LineTask(poison_from=3)
    with pytest.raises(TrainingDataError, match="at step 3; use a lower learning rate"):
        Trainer(task, OPTIONS, tmp_path).run()

    stored = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert stored["step"] == 3
    assert all(value.isfinite().all() for value in stored["module"].values())


def test_a_checkpoint_that_does_not_fit_or_is_cut_off_is_said(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(TrainingDataError, match="a checkpoint of another model"):
        Trainer(LineTask(inputs=3), OPTIONS, tmp_path)

    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingDataError, match="cannot be read as a checkpoint"):
        Trainer(LineTask(), OPTIONS, tmp_path)
    with pytest.raises(TrainingDataError, match="cannot be read as a checkpoint"):
        Trainer(LineTask(), OPTIONS, tmp_path, resume_from=tmp_path / "nothing.pt")


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    task, _ = trained(tmp_path)
    again, trainer = trained(tmp_path)

    assert trainer.step == OPTIONS.steps
    assert same(weights(again.module), weights(task.module))
    assert json.loads((tmp_path / "options.json").read_text())["steps"] == OPTIONS.steps
