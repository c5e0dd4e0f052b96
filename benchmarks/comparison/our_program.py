"""Runs `mmaudio generate` and writes the measurements: `our_program.py REPORT ARGS...`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def main(report: str, *arguments: str) -> None:
    settings = json.loads(os.environ["MEASUREMENT"])
    measured: dict[str, Any] = {"media_s": 0.0}

    def write() -> None:
        measured["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        Path(report).write_text(json.dumps(measured))

    from mmaudio_model import local_run
    from mmaudio_model.networks.flow import FlowNetwork
    from mmaudio_model.networks.vae import Vae

    velocity = FlowNetwork.velocity

    def first_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "first_step_at" not in measured:
            measured["first_step_at"] = time.monotonic()
            if settings["until"] == "first step":
                write()
                os._exit(0)
        return velocity(self, *args, **kwargs)

    FlowNetwork.velocity = first_step  # type: ignore[method-assign]
    decode = Vae.decode

    def kept_mel(self: Any, latent: Any) -> Any:
        mel = decode(self, latent)
        measured["mel"] = mel.float().flatten().tolist() if settings.get("keep_mel") else None
        return mel

    Vae.decode = kept_mel  # type: ignore[method-assign]

    def timed(function: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                measured["media_s"] += time.monotonic() - began

        return run

    local_run.read_request = timed(local_run.read_request)
    local_run.write_result = timed(local_run.write_result)
    from mmaudio_model.cli.generate import generate

    generate.main(list(arguments), standalone_mode=False)
    write()


if __name__ == "__main__":
    main(*sys.argv[1:])
