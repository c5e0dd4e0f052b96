"""One loaded tiny_16k for all tests of the model."""

from __future__ import annotations

import pytest

from mmaudio_model.pipeline import Pipeline
from mmaudio_model.variants import get_variant


@pytest.fixture(scope="session")
def tiny() -> Pipeline:
    return Pipeline.load(get_variant("tiny_16k"))
