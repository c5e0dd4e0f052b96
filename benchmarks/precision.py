"""Distance of the log-mel spectrogram in bfloat16 from the one in float32, in our program and in the published one.

    python -m benchmarks.precision --reference MMAudio --reference-python PYTHON --weights FOLDER

Same prompt, seed and steps in each run, on a CPU. The distance is the root mean square over the spectrogram that the
VAE decodes, in its own logarithm (16k: base 10, 44k: natural).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.comparison.programs import Programs

PROMPTS = ("a dog barks twice", "waves and seagulls")


def main() -> None:
    programs, options = Programs.from_command_line(__doc__)
    print(f"{'variant':<14}{'prompt':<22}{'published':>10}{'ours':>8}{'ratio':>8}{'fp32 distance':>15}")
    for variant in options.variants:
        for prompt in PROMPTS:
            arguments = ["--variant", variant, "--prompt", prompt, "--duration", "2"]
            reference = [*arguments, "--num_steps", "10"]
            ours = [*arguments, "--num-steps", "10"]
            published = [
                _mel(programs.run_reference(*reference, "--full_precision", keep_mel=True)),
                _mel(programs.run_reference(*reference, keep_mel=True)),
            ]
            found = [
                _mel(programs.run_ours(*ours, "--precision", precision, keep_mel=True))
                for precision in ("fp32", "bf16")
            ]
            base, distance = _distance(*published), _distance(*found)
            fp32_distance = _distance(published[0], found[0])
            print(
                f"{variant:<14}{prompt:<22}{base:>10.4f}{distance:>8.4f}{distance / base:>8.2f}{fp32_distance:>15.2g}",
                flush=True,
            )


def _mel(measured: dict[str, Any]) -> np.ndarray:
    return np.array(measured["mel"])


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


if __name__ == "__main__":
    main()
