"""Layout of the Gradio app: converts field values to a `Form` and shows the results of `generation`."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from mmaudio_model.errors import ModelError
from mmaudio_model.gradio_app.generation import (
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_STEPS,
    Form,
    GeneratedFiles,
    SoundGenerator,
)
from mmaudio_model.variants import Variant

DOING = {"read": "reading", "encode": "encoding", "sample": "sampling", "vocode": "vocoding", "write": "writing"}
CACHE_CHECK_S, CACHE_AGE_S = 3600, 24 * 3600
"""gradio's copies of inputs and outputs are deleted after a day. The results stay in their folder."""


def build_app(generator: SoundGenerator) -> gr.Blocks:
    """Return the app, with tabs for video, text and image input."""
    app = gr.Blocks(
        title="mmaudio",
        # Set before the app is built; otherwise gradio contacts its server.
        analytics_enabled=False,
        delete_cache=(CACHE_CHECK_S, CACHE_AGE_S),
    )
    with app:
        gr.Markdown(_heading(generator.variant))
        with gr.Tab("Video to audio"):
            _video_tab(generator, app)
        with gr.Tab("Text to audio"):
            _text_tab(generator, app)
        with gr.Tab("Image to audio"):
            _image_tab(generator, app)
    return app


def _video_tab(generator: SoundGenerator, app: gr.Blocks) -> None:
    def video_to_audio(
        video: str | None,
        prompt: str,
        negative_prompt: str,
        seed: int | None,
        num_steps: int | None,
        cfg_strength: float | None,
        duration_s: float | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio detects it by the default
    ) -> tuple[str, str, int]:
        form = Form(prompt, negative_prompt, seed, num_steps, cfg_strength, duration_s)
        result = _generate(generator, app, form, progress, video=_selected(video, "video"))
        return str(result.video), str(result.sound), result.seed

    with gr.Row():
        with gr.Column():
            # Uploads only, unconverted: recordings and conversions would go through gradio's FFmpeg.
            video = gr.Video(label="Video", sources=["upload"], include_audio=True)
            fields = _create_fields(generator.variant, negative_prompt="music")
            button = gr.Button("Make sound", variant="primary")
        with gr.Column():
            shown = gr.Video(label="Video with its sound", interactive=False, buttons=["download"])
            outputs = [shown, *_results()]
    _connect(button, video_to_audio, [video, *fields], outputs)


def _text_tab(generator: SoundGenerator, app: gr.Blocks) -> None:
    def text_to_audio(
        prompt: str,
        negative_prompt: str,
        seed: int | None,
        num_steps: int | None,
        cfg_strength: float | None,
        duration_s: float | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - as above
    ) -> tuple[str, int]:
        form = Form(prompt, negative_prompt, seed, num_steps, cfg_strength, duration_s)
        result = _generate(generator, app, form, progress)
        return str(result.sound), result.seed

    with gr.Row():
        with gr.Column():
            fields = _create_fields(generator.variant)
            button = gr.Button("Make sound", variant="primary")
        with gr.Column():
            outputs = _results()
    _connect(button, text_to_audio, fields, outputs)


def _image_tab(generator: SoundGenerator, app: gr.Blocks) -> None:
    def image_to_audio(
        image: str | None,
        prompt: str,
        negative_prompt: str,
        seed: int | None,
        num_steps: int | None,
        cfg_strength: float | None,
        duration_s: float | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - as above
    ) -> tuple[str, int]:
        form = Form(prompt, negative_prompt, seed, num_steps, cfg_strength, duration_s)
        result = _generate(generator, app, form, progress, image=_selected(image, "image"))
        return str(result.sound), result.seed

    with gr.Row():
        with gr.Column():
            image = gr.Image(label="Image", sources=["upload"], type="filepath")
            # gradio would open the picture and fail without an explanation; `media.image` has limits and explains.
            # Set on the instance: for a subclass, gradio writes a .pyi file beside this module.
            vars(image)["preprocess"] = _path_of
            fields = _create_fields(generator.variant)
            button = gr.Button("Make sound", variant="primary")
        with gr.Column():
            outputs = _results()
    _connect(button, image_to_audio, [image, *fields], outputs)


def _heading(variant: Variant) -> str:
    text = f"# mmaudio\nVariant **{variant.name}**, {variant.sample_rate_hz / 1000:g} kHz, licence {variant.licence}."
    return text if variant.note is None else f"{text}\n\n**Note:** {variant.name} is {variant.note}."


def _create_fields(variant: Variant, *, negative_prompt: str = "") -> list[Any]:
    """Create the fields of a `Form`, in its order."""
    usual, least_s, most_s = Form(), variant.min_duration_s, variant.max_duration_s
    prompt = gr.Textbox(label="Prompt")
    negative = gr.Textbox(label="Negative prompt", value=negative_prompt)
    # Ranges are checked by `parse_form`, whose errors name the field; gradio's do not.
    with gr.Row():
        seed = gr.Number(usual.seed, label="Seed", info=f"-1 draws one; at most {MAX_SEED}", precision=0)
        steps = gr.Number(usual.num_steps, label="Number of steps", info=f"1 to {MAX_STEPS}", precision=0)
    with gr.Row():
        guidance = gr.Number(
            usual.cfg_strength, label="Guidance strength", info=f"0 to {MAX_GUIDANCE:g}; below 1: none", step=0.5
        )
        duration = gr.Number(variant.default_duration_s, label="Duration in seconds", info=f"{least_s:g} to {most_s:g}")
    return [prompt, negative, seed, steps, guidance, duration]


def _results() -> list[Any]:
    sound = gr.Audio(label="Sound", type="filepath", interactive=False, buttons=["download"])
    return [sound, gr.Number(label="Seed used", interactive=False, precision=0)]


def _connect(button: gr.Button, make: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
    # One queue for all three tabs, since there is one device; by default gradio has one per tab.
    button.click(make, inputs, outputs, api_name=make.__name__, concurrency_limit=1, concurrency_id="device")


def _generate(
    generator: SoundGenerator, app: gr.Blocks, form: Form, progress: gr.Progress, **files: Path
) -> GeneratedFiles:
    def on_progress(doing: str, done: int, of: int) -> None:
        progress((done, of), desc=DOING[doing])

    try:
        result = generator.generate(form, on_progress=on_progress, **files)
    except ModelError as exc:
        raise _shown_error(str(exc)) from exc
    except OSError as exc:
        raise _shown_error(f"The files could not be read or written: {exc.strerror or exc}.") from exc
    # Allow single files: the folder may contain private ones.
    app.allowed_paths.extend(str(path) for path in (result.sound, result.video) if path is not None)
    for warning in result.warnings:
        gr.Warning(escape(warning, quote=False))
    return result


def _shown_error(sentence: str) -> gr.Error:
    # gradio renders messages as markup, and a message may quote a file. A user error needs no traceback.
    return gr.Error(escape(sentence, quote=False), print_exception=False)


def _selected(path: str | None, kind: str) -> Path:
    if path is None:
        raise _shown_error(f"No {kind} selected; select one first.")
    return Path(path)


def _path_of(image: Any) -> str | None:
    return None if image is None else image.path
