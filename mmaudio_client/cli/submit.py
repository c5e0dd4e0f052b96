"""`mmaudio submit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from mmaudio_client.cli.session import conclude, follow, save, with_server
from mmaudio_client.client import Client


@click.command()
@click.argument("video", required=False)
@click.option("--image", help="A still picture instead of a video.")
@click.option("--prompt", default="", help="What it should sound like.")
@click.option("--negative-prompt", default="", help="What it should not sound like.")
@click.option("--variant", help="Model variant; default: the server's.")
@click.option("--start", "start_s", type=float, help="Where in the video to start, in seconds.")
@click.option("--duration", "duration_s", type=float, help="How long the sound is, in seconds; default: the video.")
@click.option("--seed", type=int, help="The same seed gives the same sound; default: drawn.")
@click.option("--num-steps", type=int, help="Sampling steps (25).")
@click.option("--cfg-strength", type=float, help="Strength of guidance (4.5).")
@click.option("--num-samples", type=int, help="Takes of the same request (1).")
@click.option("--mask-away-clip", is_flag=True, default=None, help="Use the motion only.")
@click.option("--audio-format", type=click.Choice(["flac", "wav", "mp3", "opus", "m4a"]), help="Format of the sound.")
@click.option("--mux/--no-mux", default=None, help="Also make the video with the new sound (default with a video).")
@click.option("--original-audio", type=click.Choice(["drop", "mix"]), help="What becomes of the video's own sound.")
@click.option("--original-gain-db", type=float, help="Gain of the video's own sound in a mix.")
@click.option("--loudness-lufs", type=float, help="Normalise to this loudness.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), help="How urgent it is.")
@click.option("--queue-ttl", "queue_ttl_s", type=int, help="How long it may wait, in seconds.")
@click.option("--run-timeout", "run_timeout_s", type=int, help="How long one attempt may run, in seconds.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Kept with the job; may be given several times.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where to save.")
@click.option("--no-wait", is_flag=True, help="Print the job's id and leave.")
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON in the end.")
@with_server
def submit(
    client: Client,
    video: str | None,
    image: str | None,
    metadata: tuple[str, ...],
    output: Path,
    no_wait: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Send VIDEO and save the sound. Without VIDEO the words make it.

    VIDEO is a file, an upload id, s3://bucket/key, or a web address where the server fetches those.
    """
    if metadata:
        fields["metadata"] = _pairs(metadata)
    job = _submit(client, _source(video), _source(image), fields)
    if no_wait:
        click.echo(json.dumps(job.raw) if as_json else job.id)
        return
    job = follow(client, job)
    if as_json:
        click.echo(json.dumps(job.raw))
    conclude(job)
    save(client, job, output, aside=as_json)


def _submit(client: Client, video: str | Path | None, image: str | Path | None, fields: dict[str, Any]) -> Any:
    console = Console(stderr=True)
    if not console.file.isatty() or not isinstance(video or image, Path):
        return client.submit(video=video, image=image, **fields)
    with Progress(TextColumn("upload"), BarColumn(), DownloadColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(done: int, size: int) -> None:
            bar.update(task, completed=done, total=size)

        return client.submit(video=video, image=image, on_upload=told, **fields)


def _source(given: str | None) -> str | Path | None:
    if given is None or given.startswith(("s3://", "https://", "http://", "upl_")):
        return given
    path = Path(given)
    if not path.is_file():
        raise click.UsageError(f"There is no file {given}.")
    if path.stat().st_size == 0:
        raise click.UsageError(f"{given} is empty.")
    return path


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"Got --metadata {text!r}; give KEY=VALUE.")
        pairs[key] = value
    return pairs
