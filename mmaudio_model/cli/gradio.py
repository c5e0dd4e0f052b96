"""`mmaudio gradio`: the model as a page in the browser, on this machine, without the platform."""

from __future__ import annotations

import ipaddress
import os
import signal
import threading
from pathlib import Path
from typing import Any

import click

from mmaudio_model.checkpoints.files import is_installed
from mmaudio_model.errors import ModelError
from mmaudio_model.variants import VARIANTS, Variant, get_variant


@click.command()
@click.option(
    "--variant", "name", type=click.Choice(list(VARIANTS)), help="Default: the largest one that is installed."
)
@click.option("--weights", "weights_dir", envvar="MMAUDIO_WEIGHTS_DIR", type=click.Path(path_type=Path))
@click.option("--device", help="cpu, cuda or cuda:N; default: cuda where there is one.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: bf16 on CUDA, fp32 on a CPU.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Whoever reaches this address may use the page.")
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("output/gradio"),
    show_default=True,
    help="Where the results stay.",
)
def gradio(name: str | None, host: str, port: int, **options: Any) -> None:
    """Make sound here, on a page in the browser."""
    # gradio reads it when it is imported and later; without it a server is told of every start.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    variant = get_variant(name) if name is not None else largest_installed(options["weights_dir"])
    if variant.note is not None:
        click.echo(f"Note: {variant.name} is {variant.note}.", err=True)
    if not _is_loopback(host):
        click.echo(f"Note: whoever reaches {host} may use the page; it asks for no key.", err=True)
    try:
        _serve(variant, host, port, **options)
    except ModuleNotFoundError as exc:
        raise click.ClickException(
            f"`mmaudio gradio` needs {exc.name}, which is not installed. "
            "Install it with: pip install 'mmaudio-platform[demo]'"
        ) from exc
    except (ModelError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def largest_installed(weights_dir: Path | None) -> Variant:
    """Return the largest variant whose files are all there; the registry goes from small to large.

    Its first needs no files, so there always is one.
    """
    return [variant for variant in VARIANTS.values() if is_installed(variant, weights_dir)][-1]


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
    from mmaudio_model.gradio_app.layout import build_app  # isort: skip - first, so that a missing extra is said at once
    from mmaudio_model.gradio_app.generation import SoundGenerator
    from mmaudio_model.local_run import default_device, default_precision
    from mmaudio_model.pipeline import Pipeline

    device = device or default_device()
    click.echo(f"loading {variant.name} onto {device}", err=True)
    pipeline = Pipeline.load(
        variant, weights_dir=weights_dir, device=device, precision=precision or default_precision(device)
    )
    page = build_app(SoundGenerator(pipeline, output.resolve()))
    stop = threading.Event()
    former = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,  # needs Node
            pwa=False,
            mcp_server=False,
            run_history=False,  # it offers to keep runs with a third party
            enable_monitoring=False,
            footer_links=["api"],
            quiet=True,
            prevent_thread_lock=True,
        )
        click.echo(f"the page is on {page.local_url} (Ctrl-C stops it); results stay in {output}")
        stop.wait()
    finally:
        # A sound that is being made is waited for; a second signal ends that too.
        for number, handler in former.items():
            signal.signal(number, handler)
        page.close(verbose=False)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
