"""`mmaudio api`: serves the app."""

from __future__ import annotations

import logging
import socket

import click

from jobs.settings import BrokerUnknownError, Settings, load_settings


@click.command()
@click.option("--bind", help="Address and port, such as 127.0.0.1:8000.  [default: MMAUDIO_API_BIND]")
def api(bind: str | None) -> None:
    """Serve the HTTP API and the dashboard."""
    settings = load_settings(**({"api_bind": bind} if bind else {}))
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel("WARNING")
    refuse_open_network(settings)
    from api.server import serve

    try:
        serve(settings)
    except BrokerUnknownError as exc:
        raise click.ClickException(str(exc)) from exc
    except socket.gaierror as exc:
        raise click.ClickException(f"Cannot listen on {settings.api_bind}: {exc.strerror}.") from exc


def refuse_open_network(settings: Settings) -> None:
    """Refuse to listen where strangers are while there is nothing that keeps them out.

    Raises:
        click.ClickException: the address is not loopback and the operator has not said that a gateway guards it.
    """
    if settings.listens_on_loopback or settings.trust_network:
        return
    raise click.ClickException(
        f"Refusing to listen on {settings.api_bind}: there are no API keys yet, so anybody there could use it. "
        "Bind 127.0.0.1, or set MMAUDIO_TRUST_NETWORK=true if a gateway in front authenticates every request."
    )
