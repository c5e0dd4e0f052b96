"""From a request to its sound, stage by stage, against the published program's own run.

`test_conditions`, `test_flow` and `test_sound` prove the parts; this proves how they are put together. The two cases
whose video goes through CLIP cost minutes on a CPU: they are in `test_large`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parity import whole

SMALL_16K = ["text", "text_no_negative", "text_nocfg", "image", "video_short"]
SMALL_44K = ["text", "image"]


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
