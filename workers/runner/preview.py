"""Makes and stores the previews of takes. What goes wrong here never fails a job, whose results are complete."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from jobs.errors import InfrastructureError
from jobs.lifecycle import ArtifactKind
from jobs.service.artifact_metadata import artifact_metadata
from jobs.service.attempts import Claim, NewArtifact
from jobs.storage.errors import StorageError
from mmaudio_model.media.waveform import Sound
from mmaudio_model.sound_preview import peaks_of, spectrogram_of
from workers.runner.result_store import store_result
from workers.runner.worker_context import AttemptOutput, WorkerContext

log = logging.getLogger(__name__)

WARNING = "preview_failed"


def write_preview(
    claim: Claim, output: AttemptOutput, folder: Path, sound: Sound, *, suffix: str, take: int, seed: int
) -> tuple[Path, NewArtifact] | None:
    """Write the picture of a take's sound; return it with its artifact, None with a warning when that fails."""
    name = f"preview{suffix}.png"
    try:
        peaks, picture = peaks_of(sound), spectrogram_of(sound)
        path = folder / name
        path.write_bytes(picture.png)
    except Exception:
        # Whatever it is, the sound itself is well.
        log.warning("no preview of take %d of job %s", take, claim.job_id, exc_info=True)
        _warn(output, take)
        return None
    artifact = NewArtifact(
        name=name,
        kind=ArtifactKind.PREVIEW,
        format="png",
        content_type="image/png",
        storage_key=f"jobs/{claim.job_id}/{claim.attempt}/{name}",
        size_bytes=0,
        sha256="",
        duration_s=round(sound.duration_s, 6),
        take=take,
        seed=seed,
        detail={
            "peaks": peaks.as_json(),
            "picture": {
                "width": picture.width,
                "height": picture.height,
                "min_hz": picture.min_hz,
                "max_hz": picture.max_hz,
                "floor_db": picture.floor_db,
            },
        },
    )
    return path, artifact


def store_previews(
    claim: Claim, context: WorkerContext, output: AttemptOutput, files: list[tuple[Path, NewArtifact]]
) -> None:
    """Store previews, by one try each; the results are stored already."""
    for path, artifact in files:
        output.preview_keys.append(artifact.storage_key)
        metadata = artifact_metadata(claim, artifact, artifact_ttl_s=context.settings.artifact_ttl_s)
        try:
            kept = store_result(context.store, path, artifact, metadata)
        except (InfrastructureError, OSError) as exc:
            log.warning("the preview of take %d of job %s was not stored: %s", artifact.take, claim.job_id, exc)
            _warn(output, artifact.take)
            with suppress(StorageError):  # if only the answer was lost; what stays is found by `mmaudio doctor`
                context.store.delete([artifact.storage_key])
        else:
            output.previews.append(replace(kept, detail=artifact.detail))


def _warn(output: AttemptOutput, take: int) -> None:
    output.warn(WARNING, f"The preview of take {take} could not be made; its files are complete.")
