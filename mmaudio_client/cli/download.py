"""`mmaudio download`."""

from __future__ import annotations

from pathlib import Path

import click

from mmaudio_client.cli.job_view import conclude, in_a_sentence
from mmaudio_client.cli.output_folder import output_option, prepare_folder
from mmaudio_client.cli.session import ServerCommand, print_json, with_server
from mmaudio_client.client import Client
from mmaudio_client.errors import ConflictError


@click.command(cls=ServerCommand)
@click.argument("job")
@click.option("--zip", "as_zip", is_flag=True, help="Save all files in one zip, such as walk.zip.")
@output_option
@with_server
def download(client: Client, job: str, as_zip: bool, output: Path, as_json: bool) -> None:
    """Save the files of JOB (an id, or its beginning) and print their paths.

    They are named after the input: walk.flac and walk-sound.mp4 for walk.mp4. No existing file is replaced.
    """
    prepare_folder(output)
    found = client.get(client.resolve_id(job))
    conclude(found, quiet=True)
    if not found.ended:
        raise ConflictError(409, "job_not_ended", f"Job {found.id} has no files yet; it is {in_a_sentence(found)}.")
    saved = (client.download_archive(found, output),) if as_zip else client.download(found, output)
    if as_json:
        print_json({"job_id": found.id, "saved_files": [str(path) for path in saved]})
    else:
        for path in saved:
            click.echo(str(path))
