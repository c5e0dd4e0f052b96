"""What the package says of itself: its version, and that it is typed."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files

import mmaudio_client


def test_the_package_is_typed_and_tells_its_version() -> None:
    assert (files(mmaudio_client) / "py.typed").is_file()
    assert mmaudio_client.__version__ == version("mmaudio-platform")
    assert set(mmaudio_client.__all__) <= set(vars(mmaudio_client))
