"""From a request to its sound, stage by stage, against the published program's own run.

`test_clip`, `test_conditions`, `test_flow` and `test_sound` prove the parts; this proves how they are put together.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parity import whole

SMALL_16K = ["text", "text_no_negative", "text_nocfg", "image", "video", "video_short"]
SMALL_44K = ["text", "image", "video"]
# Most of it goes into making and filling networks of a billion parameters.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("name", [f"e2e_small_16k_{case}" for case in SMALL_16K])
def test_small_16k_gives_the_published_sound(name: str) -> None:
    whole.assert_published(name)


@pytest.mark.parametrize("name", [f"e2e_small_44k_{case}" for case in SMALL_44K])
def test_small_44k_gives_the_published_sound(name: str) -> None:
    whole.assert_published(name)


@pytest.fixture(scope="module", autouse=True)
def _memory() -> Iterator[None]:
    yield
    whole.forget()
