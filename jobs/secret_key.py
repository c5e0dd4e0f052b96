"""The key that signs links: a setting, or a file in the data folder that the first process generates."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
import tempfile
from pathlib import Path

from jobs.settings import Settings
from jobs.settings_errors import SettingsError

log = logging.getLogger(__name__)

MIN_BYTES = 32


def load_secret_key(settings: Settings) -> bytes:
    """Return the key that signs links; without the setting it is generated on first use and kept (mode 0600).

    Raises:
        SettingsError: the kept key is too short to be one: the file is damaged.
    """
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
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave an empty key under the final name
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        Path(draft).unlink()
    key = path.read_bytes().strip()
    if len(key) < MIN_BYTES:
        raise SettingsError(
            f"{path} holds {len(key)} bytes, a key has at least {MIN_BYTES}; remove the file, then a new key is made "
            "and links that were handed out before are refused."
        )
    _make_private(path)
    return key


def _make_private(path: Path) -> None:
    """Take a kept key away from other users: an earlier release, or a copy, may have let them read it."""
    with contextlib.suppress(OSError):  # the folder, 0700, keeps them out too
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
            log.warning(
                "%s could be read by other users of this machine; now only by this one. Remove it for a new key.", path
            )
