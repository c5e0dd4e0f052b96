"""Devices and weights of the settings are checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.settings import Settings
from jobs.settings_errors import SettingsError
from workers.host.preflight import check_weights, chosen_devices


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
