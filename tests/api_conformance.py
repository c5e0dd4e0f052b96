"""Schemathesis against the real server: generated requests, and every check that it has.

`python -m tests.api_conformance` runs the phases `coverage` (each rule of each schema, kept and broken) and `fuzzing`;
`schemathesis.toml` says what is expected where a schema cannot say it.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from local_services.commands import Commands, wait_until
from local_services.ports import free_port
from local_services.valkey import valkey_server

ROOT = Path(__file__).parents[1]
SEED = 20261128
_GENERATED = re.compile(r"(\d+) generated")


@dataclass(frozen=True)
class Outcome:
    """What one run found.

    Attributes:
        generated: number of requests.
        passed: no check failed.
    """

    generated: int
    passed: bool
    output: str


@contextlib.contextmanager
def conformance_server(folder: Path) -> Iterator[str]:
    """Run an API with SQLite, a folder and a broker, without a worker; yield its URL."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        environment = {
            "MMAUDIO_DATA_DIR": str(folder / "data"),
            "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
            "MMAUDIO_BROKER_URL": stack.enter_context(valkey_server(folder / "valkey")),
            "MMAUDIO_VARIANTS": "tiny_16k",
            "MMAUDIO_S3_EVENTS_TOKEN": "a token for events 0123",
        }
        logs = folder / "log"
        logs.mkdir()
        commands = Commands(environment, logs)
        stack.callback(commands.stop_all)
        assert commands.start("migrate").wait(timeout=60) == 0, commands.output()
        commands.start("api")
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{url}/readyz").status_code == 200
            return False

        wait_until(answers, within_s=60, what="the API")
        yield url


def run_schemathesis(url: str, *, max_examples: int, phases: str = "coverage,fuzzing") -> Outcome:
    """Generate requests from the OpenAPI document of a server and check every answer."""
    command = [
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
        "--config-file", str(ROOT / "schemathesis.toml"),
        "run", f"{url}/openapi.json", "--phases", phases, "--checks", "all", "--max-examples", str(max_examples),
        "--seed", str(SEED), "--continue-on-failure", "--no-color",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    counts = _GENERATED.findall(done.stdout)
    return Outcome(int(counts[-1]) if counts else 0, done.returncode == 0, done.stdout + done.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-examples", type=int, default=60, help="requests of each call in the phase fuzzing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, conformance_server(Path(folder)) as url:
        outcome = run_schemathesis(url, max_examples=options.max_examples)
    sys.stdout.write(outcome.output)
    sys.exit(0 if outcome.passed else 1)


if __name__ == "__main__":
    main()
