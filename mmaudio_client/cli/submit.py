"""`mmaudio submit`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import click

from mmaudio_client.cli.batch import Batch
from mmaudio_client.cli.error_output import InterruptedWaitError
from mmaudio_client.cli.job_inputs import JobInput, collect_inputs
from mmaudio_client.cli.metadata import metadata_pairs
from mmaudio_client.cli.output_folder import output_option
from mmaudio_client.cli.progress_bar import ProgressBar
from mmaudio_client.cli.session import ServerCommand, with_server
from mmaudio_client.cli.single_job import check_output, finish, no_wait_option
from mmaudio_client.client import Client
from mmaudio_client.models import Job
from mmaudio_client.request_body import check_body
from mmaudio_client.submit_fields import SubmitFields


class _Finite(click.types.FloatParamType):
    """A number that is neither NaN nor infinite; JSON has no other."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


FINITE = _Finite()


@click.command(cls=ServerCommand)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--image", metavar="INPUT", help="Input to use as an image, whatever its suffix is.")
@click.option("--prompt", help="Description of the sound.")
@click.option("--negative-prompt", help="Description of sounds to avoid.")
@click.option("--variant", metavar="NAME", help="Model variant; default: the server's.")
@click.option("--start", "start_s", type=FINITE, metavar="SECONDS", help="Start of the section of the video to use.")
@click.option(
    "--duration", "duration_s", type=FINITE, metavar="SECONDS", help="Length of the sound; default: the video's."
)
@click.option("--seed", type=int, help="Random seed; the same seed gives the same sound. Default: random.")
@click.option("--num-steps", type=int, help="Sampling steps; default: 25.")
@click.option("--cfg-strength", type=FINITE, help="Guidance strength; default: 4.5.")
@click.option("--num-samples", type=int, help="Number of takes, with seeds SEED, SEED+1, ...; default: 1.")
@click.option(
    "--mask-away-clip", is_flag=True, default=None, help="Use only the motion of the video, not what it shows."
)
@click.option(
    "--audio-format",
    type=click.Choice(["flac", "wav", "mp3", "opus", "m4a"]),
    help="Format of the sound; default: flac.",
)
@click.option("--channels", type=click.IntRange(1, 2), help="Channels of the new sound; default: 1.")
@click.option(
    "--sample-rate",
    "sample_rate_hz",
    type=int,
    metavar="HZ",
    help="Sample rate of the sounds, such as 48000; default: the model's, of a mix the original's.",
)
@click.option("--mux/--no-mux", default=None, help="Also produce the video with the new sound; default: --mux.")
@click.option(
    "--keep-tracks/--no-keep-tracks",
    default=None,
    help="Keep the video's other audio tracks, subtitles, chapters, time code and tags; default: --keep-tracks.",
)
@click.option(
    "--container",
    "video_container",
    type=click.Choice(["auto", "mp4", "mov", "mkv", "webm"]),
    help="Container of the video; default: the source's where the video can be copied.",
)
@click.option("--original-audio", type=click.Choice(["drop", "mix"]), help="The video's own sound; default: drop.")
@click.option("--original-gain-db", type=FINITE, metavar="DB", help="Gain of the video's own sound in a mix.")
@click.option(
    "--duck-db", type=FINITE, metavar="DB", help="Lower the video's own sound by this much while the new one is heard."
)
@click.option(
    "--audio-files",
    type=click.Choice(["effect", "mix", "both"]),
    help="Sound files: the new sound, the mix, or one of each; default: effect.",
)
@click.option("--loudness-lufs", type=FINITE, metavar="LUFS", help="Normalise to this loudness.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), help="Urgency; default: normal.")
@click.option(
    "--queue-ttl", "queue_ttl_s", type=int, metavar="SECONDS", help="Fail the job if it waits longer than this."
)
@click.option(
    "--run-timeout", "run_timeout_s", type=int, metavar="SECONDS", help="End an attempt that runs longer than this."
)
@click.option("--preset", metavar="NAME", help="Take the fields that are not given from this preset; NAME@VERSION.")
@click.option("--webhook-url", metavar="URL", help="URL that the server calls when the job has ended.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Store a pair with the job; repeatable.")
@click.option("--deliver-to", metavar="S3_URL", help="s3://bucket/prefix/ to which the server also copies the results.")
@output_option
@no_wait_option
@with_server
def submit(
    client: Client,
    inputs: tuple[str, ...],
    image: str | None,
    metadata: tuple[str, ...],
    output: Path,
    no_wait: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Create a job for each INPUT, wait, save the sounds and print their paths. Without INPUT, the prompt alone makes
    one job.

    INPUT is a file, a folder (its videos and images), s3://bucket/key, an https URL or an upload id. No existing file
    is replaced. Results are named after INPUT:

    \b
      walk.mp4: walk.flac and walk-sound.mp4
    """
    found = collect_inputs(inputs, image=image, on_repeated=None if as_json else _say_repeated)
    if not found and not (fields["prompt"] or "").strip():
        raise click.UsageError("Nothing to make a sound from: give a file, a folder, --image or --prompt.")
    if metadata:
        fields["metadata"] = metadata_pairs(metadata)
    check_body({name: value for name, value in fields.items() if value is not None})
    check_output(output, no_wait=no_wait)
    request = cast("SubmitFields", fields)
    if len(found) > 1:
        code = Batch(client, found, request, output=output, as_json=as_json).run(no_wait=no_wait)
        raise click.exceptions.Exit(int(code))
    one = found[0] if found else None
    try:
        job = _submit_with_progress(client, one, request, quiet=as_json)
    except KeyboardInterrupt:
        raise InterruptedWaitError(
            "Interrupted before the server confirmed the job; `mmaudio list` shows whether it was created."
        ) from None
    name = one.path.name if one is not None and one.path is not None else None
    finish(client, job, output, no_wait=no_wait, as_json=as_json, name=name)


def _say_repeated(one: JobInput) -> None:
    click.echo(f"{one.label} is given more than once; it makes one job.", err=True)


def _submit_with_progress(client: Client, one: JobInput | None, fields: SubmitFields, *, quiet: bool) -> Job:
    if one is None:
        return client.submit(**fields)
    video, image = (one.source, None) if one.field == "video" else (None, one.source)
    if one.path is None:
        return client.submit(video=video, image=image, **fields)
    with ProgressBar("upload", one.path.stat().st_size, counts_bytes=True, hidden=quiet) as bar:
        return client.submit(video=video, image=image, on_upload=lambda done, _: bar.show(done), **fields)
