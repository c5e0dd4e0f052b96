"""The official clients with nothing but their environment changed: programs that do not know of this platform."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_S, RunningPlatform
from tests.e2e.tls_server import TlsServer, tls_server

REPLICATE_PROGRAM = """
import sys, replicate
with open(sys.argv[1], "rb") as video:
    output = replicate.run("zsxkib/mmaudio", input={"video": video, "prompt": "a ball", "num_steps": 2, "duration": 1})
print(type(output).__name__, output.read()[4:8])
"""
FAL_PROGRAM = """
import sys, fal_client
given = {"prompt": "a ball", "num_steps": 2, "duration": 1}
with_video = {**given, "video_url": fal_client.encode_file(sys.argv[1])}
result = fal_client.subscribe("fal-ai/mmaudio-v2", with_video)
print(sorted(result), fal_client.run("fal-ai/mmaudio-v2/text-to-audio", given)["audio"]["content_type"])
"""


@pytest.fixture(scope="module")
def server(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    with tls_server(platform.data_dir, tmp_path_factory.mktemp("tls")) as running:
        yield running


def output_of(program: str, argument: Path, server: TlsServer, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(argument)],
        env={**clean, "SSL_CERT_FILE": str(server.certificate), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_replicates_client_needs_another_base_url_and_key_only(server: TlsServer, demo_video: Path) -> None:
    environment = {"REPLICATE_BASE_URL": f"https://{server.host}", "REPLICATE_API_TOKEN": server.key}
    assert output_of(REPLICATE_PROGRAM, demo_video, server, **environment) == "FileOutput b'ftyp'"


def test_no_key_of_another_service_is_taken_where_keys_are_needed(server: TlsServer, demo_video: Path) -> None:
    environment = {"REPLICATE_BASE_URL": f"https://{server.host}", "REPLICATE_API_TOKEN": "r8_theirs"}
    with pytest.raises(AssertionError, match="401"):
        output_of(REPLICATE_PROGRAM, demo_video, server, **environment)


def test_fals_client_needs_other_hosts_and_another_key_only(server: TlsServer, demo_video: Path) -> None:
    environment = {
        "FAL_QUEUE_RUN_HOST": server.host,
        "FAL_RUN_HOST": f"{server.host}/fal/run",
        "FAL_KEY": server.key,
    }
    assert output_of(FAL_PROGRAM, demo_video, server, **environment) == "['video'] audio/flac"
