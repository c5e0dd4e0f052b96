"""Checks of devices and weights that `mmaudio up` and `mmaudio worker` make before they start anything. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from jobs.settings import Settings
from jobs.settings_errors import SettingsError
from mmaudio_model.checkpoints.folder import check_folder
from mmaudio_model.checkpoints.layout import holds_part
from mmaudio_model.checkpoints.origin import part_files
from mmaudio_model.errors import ModelError, WeightsBrokenError, WeightsMissingError
from mmaudio_model.variants import VARIANTS, Variant, get_variant
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
    """Check that each variant of the settings can be loaded; without any, that there is a variant to serve.

    A folder need not hold a part of every variant: a worker loads the others from the cache or the package.

    Raises:
        SettingsError: the weights folder does not exist or is no weights folder, or a variant's weights are missing or
            broken.
    """
    if settings.weights_dir is not None and not settings.weights_dir.is_dir():
        raise SettingsError(f"MMAUDIO_WEIGHTS_DIR is {str(settings.weights_dir)!r}; give a folder that exists.")
    try:
        check_folder(settings.weights_dir)
    except ModelError as exc:
        raise SettingsError(str(exc)) from exc
    if not settings.variants:
        _check_any(settings.weights_dir)
    for setting, names in (("MMAUDIO_VARIANTS", settings.variants), ("MMAUDIO_PRELOAD", settings.preload)):
        for name in names:
            _check_installed(settings, setting, name)


def _check_any(weights_dir: Path | None) -> None:
    """Refuse broken weights when no variant can be loaded, or none of those that the folder holds a part of.

    A worker serves every variant that can be loaded. It would start without any, or with those of the package alone.
    """
    held = [each for each in VARIANTS.values() if weights_dir is not None and holds_part(each, weights_dir)]
    for variants in (held, list(VARIANTS.values())):
        errors: list[ModelError] = []
        for variant in variants:
            error = _load_error(variant, weights_dir)
            if error is None:
                errors.clear()
                break
            errors.append(error)
        broken = next((error for error in errors if isinstance(error, WeightsBrokenError)), None)
        if broken is not None:
            raise SettingsError(str(broken)) from broken


def _load_error(variant: Variant, weights_dir: Path | None) -> ModelError | None:
    try:
        part_files(variant, weights_dir)
    except ModelError as exc:
        return exc
    return None


def _check_installed(settings: Settings, setting: str, name: str) -> None:
    try:
        variant = get_variant(name)
    except ModelError as exc:
        raise SettingsError(f"{setting} names {name!r}, but {exc}") from exc
    error = _load_error(variant, settings.weights_dir)
    if error is None:
        return
    if not isinstance(error, WeightsMissingError):
        raise SettingsError(f"{setting} names {name!r}, but {error}") from error
    place = settings.weights_dir or "the Hugging Face cache"
    fetch = f"mmaudio weights fetch {name}" + (f" --weights {settings.weights_dir}" if settings.weights_dir else "")
    raise SettingsError(
        f"{setting} names {name!r}, whose weights are not in {place}; run `{fetch}`, or give variants that "
        "are installed."
    ) from error
