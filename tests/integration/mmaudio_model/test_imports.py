"""What runs without torch or without an optional package, each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

WITHOUT_GRADIO = """
import sys
sys.modules["gradio"] = None
from mmaudio_model.cli.gradio import gradio
gradio({arguments!r})
"""


def test_variants_lengths_errors_and_files_are_known_without_torch() -> None:
    modules = "mmaudio_model.variants, mmaudio_model.lengths, mmaudio_model.errors, mmaudio_model.checkpoints.files"
    code = (
        f"import sys, {modules}\n"
        "from mmaudio_model.checkpoints.files import is_installed\n"
        "from mmaudio_model.variants import VARIANTS\n"
        "[is_installed(variant, None) for variant in VARIANTS.values()]\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_loads_and_generates_without_the_compiler_of_torch() -> None:
    # Its import takes 3 s of CPU, in each worker process.
    code = (
        "import sys\n"
        "from mmaudio_model.pipeline import GenerationRequest, Pipeline\n"
        "from mmaudio_model.variants import get_variant\n"
        "pipeline = Pipeline.load(get_variant('tiny_16k'))\n"
        "pipeline.generate([GenerationRequest(duration_s=0.64, seed=0, prompt='rain', num_steps=1)])\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def run_without_gradio(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = WITHOUT_GRADIO.format(arguments=arguments)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_help_needs_no_gradio() -> None:
    done = run_without_gradio("--help")

    assert done.returncode == 0, done.stderr
    assert "--variant" in done.stdout


def test_a_missing_extra_is_a_sentence_that_says_how_to_get_it() -> None:
    done = run_without_gradio("--variant", "tiny_16k")

    assert done.returncode == 1
    assert "pip install 'mmaudio-platform[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
