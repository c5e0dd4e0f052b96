"""`mmaudio gradio`: a web page for the model on this machine, without the platform."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import click

from mmaudio_model.checkpoints.files import is_installed
from mmaudio_model.checkpoints.folder import check_folder, check_folder_for
from mmaudio_model.checkpoints.layout import holds_part
from mmaudio_model.checkpoints.origin import describe_origins, part_files
from mmaudio_model.cli import options as shared
from mmaudio_model.cli.command import CommandError, LocalCommand
from mmaudio_model.errors import WeightsMissingError
from mmaudio_model.variants import VARIANTS, Variant, get_variant


@click.command(cls=LocalCommand, extra="demo")
@shared.variant(description="Model variant. Default: the largest one that is installed.")
@shared.weights_dir
@shared.device
@shared.precision
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Everyone who can reach it can use the page; there is no login.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True, help="Port to listen on.")
@click.option(
    "--output",
    type=shared.FOLDER,
    default=Path("output/gradio"),
    show_default=True,
    help="Folder for the results; they are kept when the page is closed.",
)
def gradio(name: str | None, host: str, port: int, **options: Any) -> None:
    """Serve a web page that generates sound on this machine."""
    # Read by gradio when it is imported and later; otherwise it reports every start to a server.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    weights_dir = options["weights_dir"]
    variant = get_variant(name) if name is not None else largest_installed(weights_dir)
    check_folder_for(variant, weights_dir)
    origins = part_files(variant, weights_dir)
    check_port_free(host, port)
    if variant.note is not None:
        click.echo(f"Note: {variant.name} is {variant.note}.", err=True)
    if weights_dir is not None:
        click.echo(f"Weights: {describe_origins(origins, weights_dir)}.", err=True)
    if not _is_loopback(host):
        click.echo(f"Warning: everyone who can reach {host} can use the page; there is no login.", err=True)
    _serve(variant, host, port, **options)


def largest_installed(weights_dir: Path | None) -> Variant:
    """Return the largest installed variant, of those that the weights folder, if one is given, holds a part of.

    Raises:
        WeightsFolderError: the folder is not a weights folder.
        WeightsMissingError: no variant is complete.
    """
    check_folder(weights_dir)
    held = [each for each in VARIANTS.values() if weights_dir is None or holds_part(each, weights_dir)]
    if not held:  # the folder is empty
        check_folder_for(next(iter(VARIANTS.values())), weights_dir)
    installed = [variant for variant in held if is_installed(variant, weights_dir)]
    if not installed:
        where = f" --weights {weights_dir}" if weights_dir is not None else ""
        raise WeightsMissingError(f"No variant is complete. See what is missing: mmaudio weights list{where}")
    return installed[-1]  # the registry is sorted by size


def check_port_free(host: str, port: int) -> None:
    """Check before the model is loaded that the page can listen.

    Raises:
        CommandError: another program listens on the port, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            # As servers do: a port whose last connections are still closing is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as exc:
        raise CommandError(
            f"Cannot listen on {host}:{port}: {exc.strerror or exc}. Choose another --port or --host.",
            code="address_unavailable",
        ) from exc


def _serve(
    variant: Variant,
    host: str,
    port: int,
    *,
    weights_dir: Path | None,
    device: str | None,
    precision: str | None,
    output: Path,
) -> None:
    # Imported here, so that `--help` and a wrong option need neither gradio nor torch.
    from mmaudio_model.gradio_app.layout import build_app  # isort: skip - first: a missing extra is reported at once
    from mmaudio_model.devices import choose_device, default_precision
    from mmaudio_model.gradio_app.generation import SoundGenerator
    from mmaudio_model.local_run import check_writable
    from mmaudio_model.pipeline import Pipeline

    device = choose_device(device)
    check_writable(output)
    click.echo(f"loading {variant.name} onto {device}", err=True)
    pipeline = Pipeline.load(
        variant, weights_dir=weights_dir, device=device, precision=precision or default_precision(device)
    )
    app = build_app(SoundGenerator(pipeline, output.resolve()))
    stop = threading.Event()
    former = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        app.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,  # needs Node
            pwa=False,
            mcp_server=False,
            run_history=False,  # it offers to store runs with a third party
            enable_monitoring=False,
            footer_links=["api"],
            quiet=True,
            prevent_thread_lock=True,
        )
        click.echo(f"serving on {app.local_url} (Ctrl-C stops it); results are kept in {output}")
        stop.wait()
    finally:
        # Closing waits for a running generation; a second signal ends that too.
        for number, handler in former.items():
            signal.signal(number, handler)
        app.close(verbose=False)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
