"""Errors of the model and of media. Each class has a stable code and states whether a retry may help."""

from __future__ import annotations

from typing import ClassVar


class ModelError(Exception):
    """Base of this package's errors; the message is a sentence for the caller."""

    code: ClassVar[str] = "model_error"
    retryable: ClassVar[bool] = False


class MediaError(ModelError):
    """Base of errors in an input file. The same file fails the same way again."""

    code = "media_error"


class MediaInvalidError(MediaError):
    """Raised when a file is not a video (or image) that can be read."""

    code = "media_invalid"


class MediaEncryptedError(MediaInvalidError):
    """Raised when a file's picture is encrypted (digital rights management, scrambling), so that it cannot be read."""

    code = "media_encrypted"


class MediaTooLargeError(MediaError):
    """Raised when a file has more pixels, frames, streams or seconds than are allowed."""

    code = "media_too_large"


class RequestInvalidError(ModelError):
    """Raised for a request that the model cannot serve."""

    code = "request_invalid"


class UnknownVariantError(ModelError):
    """Raised for a variant that is not in the registry."""

    code = "unknown_variant"


class DeviceUnavailableError(ModelError):
    """Raised for a device name that is not allowed, or a device that this machine does not have."""

    code = "device_unavailable"


class OutputNotWritableError(ModelError):
    """Raised before the model runs when its result could not be written."""

    code = "output_not_writable"


class ModelFaultError(ModelError):
    """Raised when the model computes no sound but NaN or infinite samples."""

    code = "model_fault"


class WeightsMissingError(ModelError):
    """Raised when a weights file is not installed."""

    code = "weights_missing"


class WeightsFolderError(WeightsMissingError):
    """Raised when a weights folder does not exist, is a file, or does not hold the weights that are asked for."""

    code = "weights_folder_invalid"


class WeightsMismatchError(ModelError):
    """Raised when a weights file does not hold the tensors that the network needs."""

    code = "weights_mismatch"


class WeightsBrokenError(WeightsMismatchError):
    """Raised when a weights file is empty, a Git LFS pointer, a dangling link, or cannot be read."""

    code = "weights_broken"


class WeightsDownloadError(ModelError):
    """Raised when a weights file cannot be fetched, or its checksum is not the published one."""

    code = "weights_download"
    retryable = True


class TrainingDataError(ModelError):
    """Raised when training data does not exist, is empty, or does not fit the variant."""

    code = "training_data"
