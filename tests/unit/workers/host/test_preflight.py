"""Devices and weights of the settings are checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.settings import Settings
from jobs.settings_errors import SettingsError
from mmaudio_model.checkpoints import bundled
from mmaudio_model.checkpoints.published import needed_files
from mmaudio_model.variants import get_variant
from workers.host.preflight import check_weights, chosen_devices

FLOW = "tiny_16k/flow.safetensors"
SMALL = [file.path for file in needed_files(get_variant("small_16k"))]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def write(folder: Path, *names: str, content: bytes = b"weights") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def refusal(settings: Settings) -> str:
    with pytest.raises(SettingsError) as refused:
        check_weights(settings)
    return str(refused.value)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with one GPU and no weights but the bundled ones."""
    monkeypatch.setattr("workers.host.devices.cuda_uuids", lambda: ["GPU-aaaa"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_devices_that_exist_are_returned() -> None:
    assert [device.name for device in chosen_devices(Settings(devices="cuda:0,cpu:1"))] == ["cuda:0", "cpu:1"]


def test_a_device_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(SettingsError, match=r"^MMAUDIO_DEVICES is 'cuda:1'; this machine has no cuda:1 \(.*cuda:0\)"):
        chosen_devices(Settings(devices="cuda:1"))


def test_gpus_that_are_hidden_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SettingsError, match=r"has no cuda:0 \(CUDA devices: none\)"):
        chosen_devices(Settings(devices="cuda:0"))


def test_a_bundled_variant_needs_no_weights() -> None:
    check_weights(Settings(variants=["tiny_16k"]))
    check_weights(Settings())


def test_weights_that_are_not_in_the_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        check_weights(Settings(variants=["small_44k"], weights_dir=tmp_path))
    sentence = str(refused.value)
    assert sentence.startswith("MMAUDIO_VARIANTS names 'small_44k', ")
    assert str(tmp_path) in sentence


def test_weights_that_were_never_fetched_are_refused_with_the_command_that_does() -> None:
    with pytest.raises(SettingsError) as refused:
        check_weights(Settings(preload=["small_44k"]))
    assert str(refused.value) == (
        "MMAUDIO_PRELOAD names 'small_44k', whose weights are not in the Hugging Face cache; run "
        "`mmaudio weights fetch small_44k`, or give variants that are installed."
    )


def test_a_weights_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^MMAUDIO_WEIGHTS_DIR is .*; give a folder that exists\."):
        check_weights(Settings(weights_dir=tmp_path / "missing"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (POINTER, "a Git LFS pointer, not the weights. Run `git lfs pull`, or copy the file again."),
        (b"", "the file is empty. Copy the file again, or train it again."),
    ],
)
def test_a_folder_whose_only_part_is_broken_is_refused_with_its_file(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    write(tmp_path, FLOW, content=content)
    sentence = f"{tmp_path / FLOW} cannot be read as weights: {reason}"

    assert refusal(Settings(weights_dir=tmp_path)) == sentence
    assert refusal(Settings(weights_dir=tmp_path, variants=["tiny_16k"])) == (
        f"MMAUDIO_VARIANTS names 'tiny_16k', but {sentence}"
    )


def test_a_broken_published_file_alone_is_not_replaced_by_the_bundled_variant(tmp_path: Path) -> None:
    write(tmp_path, SMALL[0], content=POINTER)

    assert refusal(Settings(weights_dir=tmp_path)).startswith(f"{tmp_path / SMALL[0]} cannot be read as weights: ")
    check_weights(Settings(weights_dir=tmp_path, variants=["tiny_16k"]))


def test_a_broken_variant_is_left_out_when_another_can_be_served(tmp_path: Path) -> None:
    write(write(tmp_path, *SMALL), FLOW, content=POINTER)

    check_weights(Settings(weights_dir=tmp_path))
    assert str(tmp_path / FLOW) in refusal(Settings(weights_dir=tmp_path, variants=["small_16k", "tiny_16k"]))


def test_broken_weights_in_the_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "SHIPPED", write(tmp_path / "package", FLOW, content=POINTER))

    assert refusal(Settings()).startswith(f"{tmp_path / 'package' / FLOW} cannot be read as weights: ")


@pytest.mark.parametrize("variants", [[], ["tiny_16k"]])
def test_a_folder_one_level_too_high_is_refused_with_the_one_that_was_meant(
    tmp_path: Path, variants: list[str]
) -> None:
    meant = write(tmp_path / "run" / "weights", FLOW)
    sentence = refusal(Settings(weights_dir=meant.parent, variants=variants))

    assert sentence.startswith(f"The weights folder {meant.parent} holds no part of any variant; it holds weights/.")
    assert sentence.endswith(f"Did you mean {meant}?")


@pytest.mark.parametrize("variants", [[], ["tiny_16k"]])
def test_an_adapter_that_is_not_merged_is_refused_with_the_command_that_merges_it(
    tmp_path: Path, variants: list[str]
) -> None:
    write(tmp_path, "adapter_config.json", "adapter_model.safetensors")

    assert "mmaudio train merge-lora" in refusal(Settings(weights_dir=tmp_path, variants=variants))


def test_a_folder_may_hold_some_of_the_variants_or_be_empty(tmp_path: Path) -> None:
    check_weights(Settings(weights_dir=tmp_path))
    check_weights(Settings(weights_dir=write(tmp_path, *SMALL), variants=["tiny_16k", "small_16k"]))
