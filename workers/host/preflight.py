"""Checks of devices and weights that `mmaudio up` and `mmaudio worker` make before they start anything. No torch."""

from __future__ import annotations

import os

from jobs.settings import Settings
from jobs.settings_errors import SettingsError
from mmaudio_model.checkpoints.files import is_installed
from mmaudio_model.errors import ModelError
from mmaudio_model.variants import get_variant
from workers.host.devices import Device, DeviceError, parse_devices


def chosen_devices(settings: Settings) -> list[Device]:
    """Return the devices of the settings.

    Raises:
        SettingsError: one is not on this machine.
    """
    try:
        return parse_devices(
            settings.devices, cpu_threads=settings.cpu_threads, visible=os.environ.get("CUDA_VISIBLE_DEVICES")
        )
    except DeviceError as exc:
        raise SettingsError(f"MMAUDIO_DEVICES is {settings.devices!r}; {exc}") from exc


def check_weights(settings: Settings) -> None:
    """Check that each variant of the settings can be loaded.

    Raises:
        SettingsError: the weights folder does not exist, or a variant's weights are missing.
    """
    if settings.weights_dir is not None and not settings.weights_dir.is_dir():
        raise SettingsError(f"MMAUDIO_WEIGHTS_DIR is {str(settings.weights_dir)!r}; give a folder that exists.")
    for setting, names in (("MMAUDIO_VARIANTS", settings.variants), ("MMAUDIO_PRELOAD", settings.preload)):
        for name in names:
            _check_installed(settings, setting, name)


def _check_installed(settings: Settings, setting: str, name: str) -> None:
    place = settings.weights_dir or "the Hugging Face cache"
    try:
        installed = is_installed(get_variant(name), settings.weights_dir)
    except ModelError as exc:
        raise SettingsError(f"{setting} names {name!r}, but {exc}") from exc
    if not installed:
        fetch = f"mmaudio weights fetch {name}" + (f" --weights {settings.weights_dir}" if settings.weights_dir else "")
        raise SettingsError(
            f"{setting} names {name!r}, whose weights are not in {place}; run `{fetch}`, or give variants that "
            "are installed."
        )
