"""Errors of the model and of media files. Each class has an error code and says whether a retry may help."""

from __future__ import annotations

from typing import ClassVar


class ModelError(Exception):
    """Base of this package's errors; the message is a sentence for the user."""

    code: ClassVar[str] = "model_error"
    retryable: ClassVar[bool] = False


class MediaError(ModelError):
    """Base of errors in an input file. The same file fails the same way again, so no retry helps."""

    code = "media_error"


class MediaInvalidError(MediaError):
    """Raised when a file is not a readable video or picture."""

    code = "media_invalid"


class MediaTooLargeError(MediaError):
    """Raised when a file exceeds the limits on pixels, frames, streams or duration."""

    code = "media_too_large"


class RequestInvalidError(ModelError):
    """Raised for request values outside the model's limits."""

    code = "request_invalid"


class UnknownVariantError(ModelError):
    """Raised for a name that is not in `VARIANTS`."""

    code = "unknown_variant"


class WeightsMissingError(ModelError):
    """Raised when a weights file is not found."""

    code = "weights_missing"


class WeightsMismatchError(ModelError):
    """Raised when a weights file lacks the tensors that the network needs."""

    code = "weights_mismatch"


class WeightsDownloadError(ModelError):
    """Raised when a weights file cannot be downloaded, or its content is not the published one."""

    code = "weights_download"
    retryable = True


class TrainingDataError(ModelError):
    """Raised when training data are missing, empty or do not fit the variant."""

    code = "training_data"
