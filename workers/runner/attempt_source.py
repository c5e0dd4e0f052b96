"""What an attempt finds out about its input before the device works: frames, the mux plan, the original sound.

What cannot be read or muxed is refused here, so that nothing fails after the expensive part.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.request import JobRequest
from jobs.service.attempts import Claim, record_resolved_request
from mmaudio_model.errors import MediaError, MediaInvalidError
from mmaudio_model.media.audio import Sound
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.encoder_choice import EncoderSettings
from mmaudio_model.media.mux.plan import MuxOptions, MuxPlan
from mmaudio_model.media.source_facts import SourceFacts
from mmaudio_model.source_length import length_warnings
from mmaudio_model.variants import Variant
from workers.feature_cache.entry import Entry
from workers.feature_cache.job_features import JobFeatures
from workers.runner.worker_context import AttemptOutput, WorkerContext

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceParts:
    """What the stages after `decode` need of the input.

    Attributes:
        duration_s: of the sound.
        video, image: the decoded frames; None: there are none, or their features are cached.
        facts: what the video declares about itself.
        options, plan: how the video is muxed; None: it is not.
        timecode: of the first frame, with the frame rate; None: the source has none.
        original: the video's own sound, to be mixed in.
    """

    duration_s: float
    video: VideoFrames | None = None
    image: ImageFrame | None = None
    facts: SourceFacts | None = None
    options: MuxOptions | None = None
    plan: MuxPlan | None = None
    timecode: tuple[str, str] | None = None
    original: Sound | None = None


class SourceReader:
    """Reads one attempt's input; warnings go to `output`."""

    def __init__(
        self, claim: Claim, request: JobRequest, variant: Variant, context: WorkerContext, output: AttemptOutput
    ) -> None:
        self._claim, self._request, self._variant = claim, request, variant
        self._context, self._output = context, output

    def read(self, source: Path | None, features: JobFeatures) -> SourceParts:
        """Read the input; frames only where their features are not cached.

        Raises:
            MediaError: the input cannot be used, or not in the way that is asked for.
            SandboxStoppedError, SandboxBrokenError: see `MediaSandbox`.
        """
        visual, default_s = features.visual, self._request.duration_s or self._variant.default_duration_s
        if source is None or visual is None:
            return SourceParts(default_s)
        if self._request.image is not None:
            return SourceParts(default_s, image=self._image(source, visual, cached=features.visual_cached))
        return self._video(source, visual, cached=features.visual_cached)

    def _image(self, source: Path, visual: Entry, *, cached: bool) -> ImageFrame | None:
        if not cached:
            size = self._variant.clip.frame_size
            image = self._context.sandbox.read_image(source, owner=self._claim.job_id, clip_size=size)
            visual.image = visual.image or image
            visual.facts = {"warnings": _stored(image.warnings)}
        self._output.warn_of(_loaded(visual.facts))
        return None if cached else visual.image

    def _video(self, source: Path, visual: Entry, *, cached: bool) -> SourceParts:
        request, variant = self._request, self._variant
        if not cached:
            wanted_s = request.duration_s or variant.max_duration_s
            facts = self._context.sandbox.source_facts(
                source, owner=self._claim.job_id, section_end_s=request.start_s + wanted_s
            )
            frames = self._frames(source, facts)
            # Running jobs with the same section share its frames, so that the device encodes them once.
            visual.video = visual.video or frames
            visual.facts = {
                "duration_s": frames.duration_s,
                "warnings": _stored((*facts.warnings, *frames.warnings) if facts is not None else frames.warnings),
                "source": [facts.pixels, facts.frame_rate, facts.duration_s] if facts is not None else None,
            }
        declared = visual.facts["source"]
        facts = SourceFacts(*declared) if declared is not None else None
        duration_s = float(visual.facts["duration_s"])
        self._output.warn_of(_loaded(visual.facts))
        if duration_s < variant.min_duration_s:
            raise MediaInvalidError(
                f"The section has {duration_s:.2f} s of video; "
                f"{variant.name} needs at least {variant.min_duration_s:g} s."
            )
        self._output.warn_of(
            length_warnings(
                duration_s,
                self._requested_s(),
                start_s=request.start_s,
                longest_s=variant.max_duration_s,
                source_s=facts.duration_s if facts is not None else None,
            )
        )
        resolved = {"duration_s": round(duration_s, 6)}
        self._context.db.run(lambda tx: record_resolved_request(tx, self._claim, resolved), repeatable=True)
        options = self._mux_options(duration_s)
        plan = self._plan(source, options, facts)
        return SourceParts(
            duration_s,
            video=None if cached else visual.video,
            facts=facts,
            options=options,
            plan=plan,
            timecode=(plan.timecode, plan.frame_rate) if plan is not None and plan.timecode else None,
            original=self._original(source, duration_s),
        )

    def _requested_s(self) -> float | None:
        """Return the duration that was asked for; an earlier attempt has put the one that it found into the request."""
        duration_s = self._request.duration_s
        found = self._claim.attempt > 1 and duration_s == round(self._variant.max_duration_s, 6)
        return None if found else duration_s

    def _frames(self, source: Path, facts: SourceFacts | None) -> VideoFrames:
        return self._context.sandbox.read_frames(
            source,
            owner=self._claim.job_id,
            start_s=self._request.start_s,
            duration_s=self._request.duration_s or self._variant.max_duration_s,
            clip_size=self._variant.clip.frame_size,
            sync_size=self._variant.sync.frame_size,
            source=facts,
        )

    def _mux_options(self, duration_s: float) -> MuxOptions:
        settings = self._context.settings
        return MuxOptions(
            start_s=self._request.start_s,
            duration_s=duration_s,
            container=self._request.video_container,
            keep_tracks=self._request.keep_tracks,
            encoder=EncoderSettings(crf=settings.reencode_crf, preset=settings.reencode_preset),
        )

    def _plan(self, source: Path, options: MuxOptions, facts: SourceFacts | None) -> MuxPlan | None:
        """Return the plan; also for a WAV file alone, which gets the time code."""
        if self._request.wants_mux:
            plan = self._context.sandbox.plan(source, owner=self._claim.job_id, options=options, source=facts)
            self._output.warn_of(plan.warnings)
            return plan
        if self._request.audio_format != "wav":
            return None
        try:
            return self._context.sandbox.plan(source, owner=self._claim.job_id, options=options, source=facts)
        except MediaError as exc:  # no video is wanted of it
            log.info("job %s: the time code is unknown: %s", self._claim.job_id, exc)
            return None

    def _original(self, source: Path, duration_s: float) -> Sound | None:
        request = self._request
        if request.original_audio != "mix":
            return None
        if not request.wants_mux and request.audio_files == "effect":
            self._output.warn(
                "original_audio_unused",
                "The original sound is in none of the files; ask for the video (`mux`) or the mix (`audio_files`).",
            )
            return None
        original = self._context.sandbox.original_sound(
            source, owner=self._claim.job_id, start_s=request.start_s, duration_s=duration_s
        )
        self._output.warn_of(original.warnings)
        return original.sound


def _stored(warnings: tuple[MediaWarning, ...]) -> list[list[str]]:
    return [[str(warning.code), warning.text] for warning in warnings]


def _loaded(facts: dict[str, Any]) -> list[MediaWarning]:
    return [MediaWarning(WarningCode(code), text) for code, text in facts["warnings"]]
