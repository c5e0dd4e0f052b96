"""`mmaudio upload`."""

from __future__ import annotations

from pathlib import Path

import click

from mmaudio_client.cli.exit_codes import ASKING
from mmaudio_client.cli.progress_bar import ProgressBar
from mmaudio_client.cli.session import ServerCommand, print_json, with_server
from mmaudio_client.client import Client
from mmaudio_client.inputs import check_file


@click.command(cls=ServerCommand, exit_codes=ASKING)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--resume", metavar="UPLOAD", help="Send the rest of this upload, which was interrupted.")
@with_server
def upload(client: Client, file: Path, resume: str | None, as_json: bool) -> None:
    """Upload FILE and print its upload id, which `submit` takes as an input.

    A file of 32 MiB or more is sent in parts: what has arrived is kept when the upload is interrupted.
    """
    check_file(file)
    with ProgressBar("upload", file.stat().st_size, counts_bytes=True, hidden=as_json) as bar:
        upload_id = client.upload(file, resume=resume, on_progress=lambda done, _: bar.show(done))
    print_json({"upload_id": upload_id}) if as_json else click.echo(upload_id)
