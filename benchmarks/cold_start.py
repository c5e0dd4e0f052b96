"""Time and peak memory from process start to the first sampling step, compared with the published program.

    python -m benchmarks.cold_start --reference MMAudio --reference-python PYTHON --weights FOLDER

Text to audio, float32, on a CPU; both read the same files from the page cache. Ours converts each file once; that first
start has a row of its own.
"""

from __future__ import annotations

import statistics

from benchmarks.comparison.programs import Programs

GB = 1e9


def main() -> None:
    programs, options = Programs.from_command_line(__doc__)
    programs.expected_md5  # noqa: B018 - reads every file, so that all are in the page cache
    print(f"{'variant':<14}{'program':<24}{'first step, s':>14}{'peak GB':>9}{'times faster':>14}")
    for variant in options.variants:
        arguments = ["--variant", variant, "--prompt", "rain", "--full_precision"]
        ours = ["--variant", variant, "--prompt", "rain", "--full-precision"]
        first = programs.run_ours(*ours, until="first step")
        base, found = [], []
        for _ in range(options.rounds):  # alternating, so that load on the machine affects both
            base.append(programs.run_reference(*arguments, until="first step"))
            found.append(programs.run_ours(*ours, until="first step"))
        base_s = statistics.median(run["to_first_step_s"] for run in base)
        for name, runs in (("published (baseline)", base), ("ours, first start", [first]), ("ours", found)):
            seconds = statistics.median(run["to_first_step_s"] for run in runs)
            peak = max(run["peak_bytes"] for run in runs) / GB
            print(f"{variant:<14}{name:<24}{seconds:>14.1f}{peak:>9.2f}{base_s / seconds:>14.1f}", flush=True)


if __name__ == "__main__":
    main()
