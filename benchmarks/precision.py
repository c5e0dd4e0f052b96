"""How far bfloat16 takes the log-mel spectrogram from float32's, in our program and in the published one.

    python -m benchmarks.precision --reference MMAudio --reference-python PYTHON --weights FOLDER

The same text, seed and steps in each run, on a CPU; the distance is the root mean square over the spectrogram that the
VAE decodes, in its own logarithm (16k: base 10, 44k: natural).
"""

from __future__ import annotations

import numpy as np

from benchmarks.yardstick.programs import Programs

PROMPTS = ("a dog barks twice", "waves and seagulls")


def main() -> None:
    programs, options = Programs.from_command_line(__doc__)
    print(f"{'variant':<14}{'prompt':<22}{'published':>10}{'ours':>8}{'ratio':>8}{'fp32 apart':>12}")
    for variant in options.variants:
        for prompt in PROMPTS:
            arguments = ["--variant", variant, "--prompt", prompt, "--duration", "2"]
            theirs = [*arguments, "--num_steps", "10"]
            ours = [*arguments, "--num-steps", "10"]
            published = [
                _mel(programs.run_reference(*theirs, "--full_precision", keep_mel=True)),
                _mel(programs.run_reference(*theirs, keep_mel=True)),
            ]
            found = [
                _mel(programs.run_ours(*ours, "--precision", precision, keep_mel=True))
                for precision in ("fp32", "bf16")
            ]
            base, distance = _distance(*published), _distance(*found)
            apart = _distance(published[0], found[0])
            print(
                f"{variant:<14}{prompt:<22}{base:>10.4f}{distance:>8.4f}{distance / base:>8.2f}{apart:>12.2g}",
                flush=True,
            )


def _mel(measured: dict) -> np.ndarray:
    return np.array(measured["mel"])


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


if __name__ == "__main__":
    main()
