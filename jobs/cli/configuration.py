"""How every command of the platform loads its settings: what is wrong is one sentence and exit status 2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import click

from jobs.private_files import keep_files_private
from jobs.settings import BrokerUnknownError, Settings
from jobs.settings_errors import SettingsError, unknown_variables, variable
from jobs.settings_loading import load_settings

# As click's for wrong usage. A supervisor does not restart a child that ends with it.
EXIT_CONFIGURATION = 2


class ConfigurationRefused(click.ClickException):
    """Raised to end a command with one sentence about its settings."""

    exit_code = EXIT_CONFIGURATION


@contextlib.contextmanager
def configuration_errors() -> Iterator[None]:
    """Turn errors of the settings into the end of the command."""
    try:
        yield
    except (SettingsError, BrokerUnknownError) as exc:
        raise ConfigurationRefused(str(exc)) from exc


def load_settings_or_exit(**options: object) -> Settings:
    """Return the settings, or end the command. Warns of variables that nothing reads.

    Every command of the platform begins so; from here on it makes no file that other users of the machine may read.

    Args:
        options: values given on the command line, by setting; None: not given. Child processes get them too, through
            the environment.
    """
    keep_files_private()
    given = {name: value for name, value in options.items() if value is not None}
    with configuration_errors():
        settings = load_settings(labels=_option_names(), **given)
    os.environ.update({variable(name): str(value) for name, value in given.items()})
    _warn_of_unknown_variables()
    return settings


def _option_names() -> dict[str, str]:
    """Return the options of the running command by the setting that they set."""
    context = click.get_current_context(silent=True)
    parameters = context.command.params if context is not None else []
    return {str(parameter.name): parameter.opts[0] for parameter in parameters}


def _warn_of_unknown_variables() -> None:
    for name, warning in unknown_variables(list(os.environ), Settings.model_fields).items():
        click.echo(f"mmaudio: warning: {warning}", err=True)
        del os.environ[name]  # child processes would repeat the warning
