"""What the page looks like: gradio's fields become a `Form`, and what comes of it is shown. Nothing is made here."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from mmaudio_model.errors import ModelError
from mmaudio_model.gradio_app.generation import (
    LARGEST_SEED,
    MOST_GUIDANCE,
    MOST_STEPS,
    Form,
    GeneratedFiles,
    SoundGenerator,
)
from mmaudio_model.variants import Variant

DOING = {"read": "reading", "encode": "encoding", "sample": "sampling", "vocode": "vocoding", "write": "writing"}
CACHE_CHECK_S, CACHE_AGE_S = 3600, 24 * 3600
"""gradio keeps copies of what is handed in and out; they live a day. The results themselves stay in their folder."""


def build_page(maker: SoundGenerator) -> gr.Blocks:
    """Return the page: a tab for video, words and image each."""
    with gr.Blocks(
        title="mmaudio",
        # Said here and not only in the environment: it is read when the page is built, and asks a server for news.
        analytics_enabled=False,
        delete_cache=(CACHE_CHECK_S, CACHE_AGE_S),
    ) as page:
        gr.Markdown(_heading(maker.variant))
        with gr.Tab("Video to audio"):
            _video_tab(maker, page)
        with gr.Tab("Text to audio"):
            _text_tab(maker, page)
        with gr.Tab("Image to audio"):
            _image_tab(maker, page)
    return page


def _video_tab(maker: SoundGenerator, page: gr.Blocks) -> None:
    def video_to_audio(
        video: str | None,
        prompt: str,
        negative_prompt: str,
        seed: int | None,
        num_steps: int | None,
        cfg_strength: float | None,
        duration_s: float | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio looks for it among the defaults
    ) -> tuple[str, str, int]:
        form = Form(prompt, negative_prompt, seed, num_steps, cfg_strength, duration_s)
        made = _make(maker, page, form, progress, video=_chosen(video, "video"))
        return str(made.video), str(made.sound), made.seed

    with gr.Row():
        with gr.Column():
            # Only uploads, kept as they are: a recorded or converted video would go through an FFmpeg of gradio's.
            video = gr.Video(label="Video", sources=["upload"], include_audio=True)
            form_fields = _form_fields(maker.variant, negative_prompt="music")
            button = gr.Button("Make sound", variant="primary")
        with gr.Column():
            shown = gr.Video(label="Video with its sound", interactive=False, buttons=["download"])
            outputs = [shown, *_results()]
    _connect(button, video_to_audio, [video, *form_fields], outputs)


def _text_tab(maker: SoundGenerator, page: gr.Blocks) -> None:
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
        made = _make(maker, page, form, progress)
        return str(made.sound), made.seed

    with gr.Row():
        with gr.Column():
            form_fields = _form_fields(maker.variant)
            button = gr.Button("Make sound", variant="primary")
        with gr.Column():
            outputs = _results()
    _connect(button, text_to_audio, form_fields, outputs)


def _image_tab(maker: SoundGenerator, page: gr.Blocks) -> None:
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
        made = _make(maker, page, form, progress, image=_chosen(image, "image"))
        return str(made.sound), made.seed

    with gr.Row():
        with gr.Column():
            image = gr.Image(label="Image", sources=["upload"], type="filepath")
            # gradio would open the picture itself and fail without a sentence; our reader has limits and says why.
            image.preprocess = _path_of
            form_fields = _form_fields(maker.variant)
            button = gr.Button("Make sound", variant="primary")
        with gr.Column():
            outputs = _results()
    _connect(button, image_to_audio, [image, *form_fields], outputs)


def _heading(variant: Variant) -> str:
    text = f"# mmaudio\nVariant **{variant.name}**, {variant.sample_rate_hz / 1000:g} kHz, licence {variant.licence}."
    return text if variant.note is None else f"{text}\n\n**Note:** {variant.name} is {variant.note}."


def _form_fields(variant: Variant, *, negative_prompt: str = "") -> list[Any]:
    """Make the fields of a `Form`, in its order."""
    usual, least_s, most_s = Form(), variant.min_duration_s, variant.max_duration_s
    prompt = gr.Textbox(label="Prompt")
    negative = gr.Textbox(label="Negative prompt", value=negative_prompt)
    # The ranges are judged by `parse_form`, which names the field; gradio's own refusal does not.
    with gr.Row():
        seed = gr.Number(usual.seed, label="Seed", info=f"-1 draws one; at most {LARGEST_SEED}", precision=0)
        steps = gr.Number(usual.num_steps, label="Number of steps", info=f"1 to {MOST_STEPS}", precision=0)
    with gr.Row():
        guidance = gr.Number(
            usual.cfg_strength, label="Guidance strength", info=f"0 to {MOST_GUIDANCE:g}; below 1: none", step=0.5
        )
        duration = gr.Number(variant.default_duration_s, label="Duration in seconds", info=f"{least_s:g} to {most_s:g}")
    return [prompt, negative, seed, steps, guidance, duration]


def _results() -> list[Any]:
    sound = gr.Audio(label="Sound", type="filepath", interactive=False, buttons=["download"])
    return [sound, gr.Number(label="Seed used", interactive=False, precision=0)]


def _connect(button: gr.Button, make: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
    # One queue for all three tabs: by itself gradio would give each its own, and the device is one.
    button.click(make, inputs, outputs, api_name=make.__name__, concurrency_limit=1, concurrency_id="device")


def _make(maker: SoundGenerator, page: gr.Blocks, form: Form, progress: gr.Progress, **files: Path) -> GeneratedFiles:
    def on_progress(doing: str, done: int, of: int) -> None:
        progress((done, of), desc=DOING[doing])

    try:
        made = maker.make(form, on_progress=on_progress, **files)
    except ModelError as exc:
        raise _shown_error(str(exc)) from exc
    except OSError as exc:
        raise _shown_error(f"The files could not be read or written: {exc.strerror or exc}.") from exc
    # File by file: the folder may hold what is nobody's business.
    page.allowed_paths.extend(str(path) for path in (made.sound, made.video) if path is not None)
    for warning in made.warnings:
        gr.Warning(escape(warning, quote=False))
    return made


def _shown_error(sentence: str) -> gr.Error:
    # gradio shows messages as markup, and a sentence may quote a file. A refusal is no fault of ours: no traceback.
    return gr.Error(escape(sentence, quote=False), print_exception=False)


def _chosen(path: str | None, kind: str) -> Path:
    if path is None:
        raise _shown_error(f"There is no {kind} yet; choose one first.")
    return Path(path)


def _path_of(image: Any) -> str | None:
    return None if image is None else image.path
