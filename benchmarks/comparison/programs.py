"""Runs either program on the same weights and returns its measurements."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Programs:
    """Locations of the two programs and the weights.

    Attributes:
        reference: a clone of github.com/hkchengrex/MMAudio.
        reference_python: the interpreter of an environment in which its `demo.py` runs.
        weights: a folder in the published layout; a Hugging Face cache in its `hf/` is used offline.
    """

    reference: Path
    reference_python: Path
    weights: Path

    @classmethod
    def from_command_line(cls, description: str | None) -> tuple[Programs, argparse.Namespace]:
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--reference", type=Path, required=True, help="a clone of github.com/hkchengrex/MMAudio")
        parser.add_argument("--reference-python", type=Path, required=True, help="the Python in which its demo.py runs")
        parser.add_argument("--weights", type=Path, required=True, help="a folder in the published layout")
        parser.add_argument("--variants", nargs="+", default=["small_16k", "large_44k_v2"])
        parser.add_argument("--rounds", type=int, default=3)
        options = parser.parse_args()
        # absolute(), not resolve(): an environment's Python is a link, and its location identifies the environment
        return cls(
            options.reference.absolute(), options.reference_python.absolute(), options.weights.absolute()
        ), options

    @cached_property
    def expected_md5(self) -> dict[str, str]:
        sums = {}
        for path in [*self.weights.glob("weights/*"), *self.weights.glob("ext_weights/*")]:
            with path.open("rb") as file:
                sums[path.name] = hashlib.file_digest(file, "md5").hexdigest()
        return sums

    def run_reference(self, *arguments: str, until: str = "end", keep_mel: bool = False) -> dict[str, Any]:
        program = [str(self.reference_python), str(FOLDER / "reference_program.py"), str(self.reference)]
        settings = {"until": until, "keep_mel": keep_mel, "expected_md5": self.expected_md5}
        return self._run(program, arguments, settings)

    def run_ours(self, *arguments: str, until: str = "end", keep_mel: bool = False) -> dict[str, Any]:
        program = [sys.executable, str(FOLDER / "our_program.py")]
        settings = {"until": until, "keep_mel": keep_mel}
        return self._run(program, [*arguments, "--weights", str(self.weights)], settings)

    def _run(self, program: list[str], arguments: Any, settings: dict[str, Any]) -> dict[str, Any]:
        environment = {**os.environ, "MEASUREMENT": json.dumps(settings), "CUDA_VISIBLE_DEVICES": ""}
        if (self.weights / "hf").is_dir():
            environment |= {"HF_HOME": str(self.weights / "hf"), "HF_HUB_OFFLINE": "1"}
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            began = time.monotonic()
            done = subprocess.run(
                [*program, str(report), *arguments, "--output", folder],
                cwd=self.weights,  # the published program looks for its weights in the working directory
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if not report.exists():
                raise SystemExit(f"{program[1]} exited with status {done.returncode}:\n{done.stderr[-3000:]}")
            measured: dict[str, Any] = json.loads(report.read_text())
        measured["to_first_step_s"] = measured["first_step_at"] - began
        return measured
