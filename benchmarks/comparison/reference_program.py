"""Runs the published program's `demo.py` and writes the measurements: `reference_program.py REPOSITORY REPORT ARGS...`.

Runs under the published program's own Python and imports nothing of ours. The program hashes its files as always; it
expects the sums of the given files (`expected_md5`) instead of the published ones.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import sys
import time
from pathlib import Path
from typing import Any


def main(repository: str, report: str, *arguments: str) -> None:
    settings = json.loads(os.environ["MEASUREMENT"])
    sys.path.insert(0, repository)
    sys.argv = ["demo.py", *arguments]
    from mmaudio.utils import download_utils

    for link in download_utils.links:
        link["md5"] = settings["expected_md5"].get(link["name"], link["md5"])

    from mmaudio import eval_utils
    from mmaudio.model.networks import MMAudio
    from mmaudio.model.utils.features_utils import FeaturesUtils

    measured: dict[str, Any] = {"media_s": 0.0}

    def write() -> None:
        measured["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        Path(report).write_text(json.dumps(measured))

    predict_flow = MMAudio.predict_flow

    def first_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "first_step_at" not in measured:
            measured["first_step_at"] = time.monotonic()
            if settings["until"] == "first step":
                write()
                os._exit(0)
        return predict_flow(self, *args, **kwargs)

    MMAudio.predict_flow = first_step
    decode = FeaturesUtils.decode

    def kept_mel(self: Any, latent: Any) -> Any:
        mel = decode(self, latent)
        measured["mel"] = mel.float().flatten().tolist() if settings.get("keep_mel") else None
        return mel

    FeaturesUtils.decode = kept_mel

    def timed(function: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                measured["media_s"] += time.monotonic() - began

        return run

    eval_utils.load_video = timed(eval_utils.load_video)
    eval_utils.make_video = timed(eval_utils.make_video)
    import torchaudio

    torchaudio.save = timed(torchaudio.save)
    runpy.run_path(str(Path(repository) / "demo.py"), run_name="__main__")
    write()


if __name__ == "__main__":
    main(*sys.argv[1:])
