"""Availability checks and loading of third-party networks."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmaudio_model.errors import ModelError, WeightsMismatchError
from mmaudio_model.evaluation.pretrained_metrics.offline import offline
from mmaudio_model.evaluation.pretrained_metrics.protocol import Adapter, Network


def missing_reason(adapter: Adapter[object], folder: Path) -> str | None:
    """Return what is missing and how to provide it, in one sentence, or None. Imports nothing."""
    if importlib.util.find_spec(adapter.package) is None:
        return f"The package {adapter.package} is not installed; install it ({adapter.install})."
    absent = [name for name in adapter.files if not (folder / name).exists()]
    if absent:
        return f"{folder} lacks {', '.join(absent)}; put it there, nothing is downloaded."
    return adapter.unready()


def load(adapter: Adapter[Network], folder: Path) -> Network:
    """Return the network, loaded from the files of `folder` without internet access.

    Raises:
        WeightsMismatchError: its package or its files cannot be used.
    """
    try:
        with offline(folder):
            return adapter.load(folder)
    except ModelError:
        raise
    except (Exception, SystemExit) as exc:
        # The boundary to a third-party package: whatever it raises affects only this metric.
        raise WeightsMismatchError(
            f"{adapter.name} cannot be loaded with {adapter.package} from {folder} "
            f"({', '.join(adapter.files)}): {type(exc).__name__}: {exc}"
        ) from exc


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a `torch.save` file: tensors and plain values, never code.

    Raises:
        WeightsMismatchError: the file is damaged or contains other objects.
    """
    # Published training checkpoints contain numpy scalars, under their name in numpy 1 or in numpy 2.
    scalar = np.float64(0).__reduce__()[0]
    scalars: list[Any] = [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype]
    scalars += [np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType]
    try:
        with torch.serialization.safe_globals(scalars):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        # torch's own message suggests an unsafe load.
        raise WeightsMismatchError(f"{path} is damaged, or contains more than tensors and plain values.") from exc
    except Exception as exc:  # torch.load raises what zipfile, pickle and struct raise
        raise WeightsMismatchError(f"{path} is not a readable checkpoint: {exc}") from exc
    if not isinstance(held, dict):
        raise WeightsMismatchError(f"{path} holds a {type(held).__name__}; a checkpoint with named tensors is needed.")
    return held
