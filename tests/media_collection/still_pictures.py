"""Still pictures as bytes."""

from __future__ import annotations

import io

from PIL import Image

from tests.media_collection.pictures import numbered

STILL = 0b10010110
"""The number that every still picture shows."""


def jpeg(width: int, height: int, **options: object) -> bytes:
    """Return a JPEG with the number."""
    return encoded(Image.fromarray(numbered(STILL, width, height)), "JPEG", **options)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
