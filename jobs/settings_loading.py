"""Parses environment and `mmaudio.toml` into `Settings`; what is wrong becomes one sentence."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pydantic_settings
from pydantic import ValidationError

from jobs.settings import CONFIG_FILE, Settings
from jobs.settings_errors import PREFIX, SettingsError, explain, renamed_setting, variable


def load_settings(*, labels: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Parse environment and `mmaudio.toml`; the one place where an entry point does so.

    Args:
        labels: how messages name an override, such as `--bind` for `api_bind`.
        overrides: values that win over environment and file.

    Raises:
        SettingsError: a value is not allowed, or a name is unknown or was renamed.
    """
    in_file = _config_file_names(Path(CONFIG_FILE))
    in_environment = {
        name.upper().removeprefix(PREFIX).lower() for name in os.environ if name.upper().startswith(PREFIX)
    }

    def label(name: str) -> str:
        if name in overrides:
            return (labels or {}).get(name, name)
        return f"{CONFIG_FILE}: {name}" if name in in_file and name not in in_environment else variable(name)

    renamed = renamed_setting(in_environment, variable, variable) or renamed_setting(in_file, label, str)
    if renamed:
        raise SettingsError(renamed)
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as exc:
        raise SettingsError(explain(exc.errors()[0], Settings.model_fields, label)) from exc
    except pydantic_settings.SettingsError as exc:  # a value of the environment that must be JSON
        found = re.search(r'field "(\w+)"', str(exc))
        name = label(found[1]) if found else "A setting"
        raise SettingsError(f'{name} is not JSON; give an object such as {{"prompt": "rain"}}.') from exc


def _config_file_names(path: Path) -> list[str]:
    """Return the names that the configuration file sets; none without a file."""
    try:
        return list(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read ({exc.strerror}); make it a readable file or remove it.") from exc
    except ValueError as exc:  # not TOML, or not UTF-8
        raise SettingsError(f"{path} is not TOML ({exc}); write lines such as worker_slots = 8.") from exc
