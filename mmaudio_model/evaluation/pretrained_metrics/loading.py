"""Whether a network of somebody else is there, and its loading."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import torch

from mmaudio_model.errors import ModelError, WeightsMismatchError
from mmaudio_model.evaluation.pretrained_metrics.offline import offline
from mmaudio_model.evaluation.pretrained_metrics.protocol import Adapter, Network


def missing_reason(adapter: Adapter, folder: Path) -> str | None:
    """Return what is missing and what to do about it in one sentence, or None. Nothing is imported."""
    if importlib.util.find_spec(adapter.package) is None:
        return f"The package {adapter.package} is not installed; install it ({adapter.install})."
    absent = [name for name in adapter.files if not (folder / name).exists()]
    if absent:
        return f"{folder} lacks {', '.join(absent)}; put it there, nothing is downloaded."
    return adapter.unready()


def load(adapter: Adapter[Network], folder: Path) -> Network:
    """Return the network, made of the files of `folder` and without the network of machines.

    Raises:
        WeightsMismatchError: its package or its files do not do what they should.
    """
    try:
        with offline(folder):
            return adapter.load(folder)
    except ModelError:
        raise
    except (Exception, SystemExit) as exc:
        # The boundary to a stranger's package: whatever it raises (or a file makes it raise) costs this metric alone.
        raise WeightsMismatchError(
            f"{adapter.name} cannot be loaded with {adapter.package} from {folder} "
            f"({', '.join(adapter.files)}): {type(exc).__name__}: {exc}"
        ) from exc


def read_checkpoint(path: Path) -> dict[str, object]:
    """Return what a file of `torch.save` holds: tensors and plain values, never code.

    Raises:
        WeightsMismatchError: it is none, or holds other things.
    """
    # Published training checkpoints hold numpy's scalars beside their tensors, under numpy 1's name for them or 2's.
    scalar = np._core.multiarray.scalar
    scalars = [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype]
    scalars += [np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType]
    try:
        with torch.serialization.safe_globals(scalars):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        # torch's own message advises to run what is in the file.
        raise WeightsMismatchError(f"{path} is damaged, or holds more than tensors and plain values.") from exc
    except Exception as exc:  # torch.load raises what zipfile, pickle and struct raise
        raise WeightsMismatchError(f"{path} is no checkpoint that can be read: {exc}") from exc
    if not isinstance(held, dict):
        raise WeightsMismatchError(f"{path} holds a {type(held).__name__}; a checkpoint with named tensors is needed.")
    return held
