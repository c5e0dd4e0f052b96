"""The key that signs links: a setting, or a file in the data folder that the first process generates."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from jobs.settings import Settings


def load_secret_key(settings: Settings) -> bytes:
    """Return the key that signs links; without the setting it is generated on first use and kept (mode 0600)."""
    given = settings.secret_key.get_secret_value()
    if given:
        return given.encode()
    path = settings.data_dir / "secret.key"
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written whole under another name, then linked: nobody reads half a key, and the first process wins.
        descriptor, draft = tempfile.mkstemp(dir=settings.data_dir, prefix=".secret-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        Path(draft).unlink()
    return path.read_bytes()
