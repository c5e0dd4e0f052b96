"""`mmaudio api`: serves the app."""

from __future__ import annotations

import contextlib
import logging

import click

from jobs.cli.configuration import configuration_errors
from jobs.cli.options import bind_option, data_dir_option, load_with_port, port_option
from jobs.listen_address import PortTakenError, refuse_open_network, reserved_port
from jobs.log_lines import start_logging
from jobs.secret_key import load_secret_keys
from jobs.settings import Settings
from jobs.writable_folders import check_folders

log = logging.getLogger(__name__)


@click.command()
@bind_option
@port_option
@data_dir_option
@click.option("--under-up", is_flag=True, hidden=True, help="Started by `mmaudio up`, which has reserved the port.")
def api(api_bind: str | None, port: int | None, data_dir: str | None, under_up: bool) -> None:
    """Serve the HTTP API and the dashboard."""
    settings = load_with_port(port, api_bind=api_bind, data_dir=data_dir)
    start_logging(settings.log_level)
    for chatty in ("httpcore", "httpx"):  # they log URLs, whose queries may have secrets
        logging.getLogger(chatty).setLevel("WARNING")
    with configuration_errors():
        settings.resolved_broker_url()
        refuse_open_network(settings)
        check_folders(settings, "api")
        load_secret_keys(settings)  # a damaged one ends the command here, not the server's process again and again
        try:
            with contextlib.nullcontext() if under_up else reserved_port(settings):
                from api.server import serve

                if settings.require_api_key and not under_up:
                    _say_without_keys(settings)
                serve(settings)
        except PortTakenError as exc:
            raise click.ClickException(str(exc)) from exc


def _say_without_keys(settings: Settings) -> None:
    """Say how the first key is made, where every request needs one and there is none."""
    from sqlalchemy.exc import SQLAlchemyError

    from jobs.api_keys.service import has_admin_key
    from jobs.db.database import Database

    db = Database(settings.database_url).of_platform()
    try:
        with db.reading() as tx:
            found = has_admin_key(tx)
    except SQLAlchemyError:
        return  # it need not answer yet, or be migrated
    finally:
        db.close()
    if not found:
        log.warning("requests need an API key and there is none: make one with `mmaudio keys create --scope admin`")
