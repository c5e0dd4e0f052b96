"""What can go wrong in the model and with media. Each class says its code and whether trying again may help."""

from __future__ import annotations

from typing import ClassVar


class ModelError(Exception):
    """Base of this package's errors; the message is a sentence for the person who asked."""

    code: ClassVar[str] = "model_error"
    retryable: ClassVar[bool] = False


class MediaError(ModelError):
    """Base of what is wrong with a file that somebody handed in. The same file fails the same way again."""

    code = "media_error"


class MediaInvalidError(MediaError):
    """Raised when a file is not a video (or picture) that can be read."""

    code = "media_invalid"


class MediaTooLargeError(MediaError):
    """Raised when a file has more pixels, frames, streams or seconds than are allowed."""

    code = "media_too_large"


class RequestInvalidError(ModelError):
    """Raised for a request that the model cannot serve."""

    code = "request_invalid"


class UnknownVariantError(ModelError):
    """Raised for a variant that is not in the registry."""

    code = "unknown_variant"


class WeightsMissingError(ModelError):
    """Raised when a weights file is not where it should be."""

    code = "weights_missing"


class WeightsMismatchError(ModelError):
    """Raised when a weights file does not hold the tensors that the network needs."""

    code = "weights_mismatch"


class WeightsDownloadError(ModelError):
    """Raised when a weights file cannot be fetched, or what came is not what was published."""

    code = "weights_download"
    retryable = True


class TrainingDataError(ModelError):
    """Raised when what training is to read is not there, is empty, or does not fit the variant."""

    code = "training_data"
