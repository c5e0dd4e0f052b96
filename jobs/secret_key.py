"""The keys that sign links: a setting, or a file in the data folder that the first process generates.

The first key signs, all are accepted. To rotate them, an operator puts a new one first and removes the old one when the
links that it signed have expired.
"""

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

FILE_NAME = "secret.key"
MIN_BYTES = 32


def load_secret_key(settings: Settings) -> bytes:
    """Return the key that signs links; raises what `load_secret_keys` raises."""
    return load_secret_keys(settings)[0]


def load_secret_keys(settings: Settings) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the key that signs links, and the older ones that are accepted too.

    Without the setting one is generated on first use and kept, one a line (mode 0600).

    Raises:
        SettingsError: a kept key is too short to be one: the file is damaged.
    """
    keys = [key.encode() for key in settings.secret_keys] or _kept_keys(settings.data_dir)
    return keys[0], tuple(keys[1:])


def rotate_kept_key(settings: Settings) -> None:
    """Put a new key first in the file, and keep the present one as the second; older ones are removed.

    Raises:
        SettingsError: the keys are in the setting, or the file is damaged.
    """
    if settings.secret_keys:
        raise SettingsError(
            "MMAUDIO_SECRET_KEY is set, so no key is kept in the data folder; put a new key before it, separated by a "
            "comma, restart the API, and remove the old one when its links have expired."
        )
    path, present = settings.data_dir / FILE_NAME, _kept_keys(settings.data_dir)[0]
    draft = _draft(settings.data_dir, [_new_key(), present])
    draft.replace(path)


def _kept_keys(data_dir: Path) -> list[bytes]:
    path = data_dir / FILE_NAME
    data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written whole under another name, then linked: nobody reads half a key, and the first process wins.
        draft = _draft(data_dir, [_new_key()])
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    keys = path.read_bytes().split()
    short = [len(key) for key in keys if len(key) < MIN_BYTES] or ([0] if not keys else [])
    if short:
        raise SettingsError(
            f"{path} holds {short[0]} bytes, a key has at least {MIN_BYTES}; remove the file, then a new key is made "
            "and links that were handed out before are refused."
        )
    _make_private(path)
    return keys


def _new_key() -> bytes:
    return secrets.token_hex(32).encode()


def _draft(folder: Path, keys: list[bytes]) -> Path:
    """Write keys to a file of mode 0600 under a name of its own."""
    descriptor, draft = tempfile.mkstemp(dir=folder, prefix=".secret-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"\n".join(keys))
        file.flush()
        os.fsync(file.fileno())  # a power cut must not leave an empty key under the final name
    return Path(draft)


def _make_private(path: Path) -> None:
    """Take a kept key away from other users: an earlier release, or a copy, may have let them read it."""
    with contextlib.suppress(OSError):  # the folder, 0700, keeps them out too
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
            log.warning(
                "%s could be read by other users of this machine; now only by this one. Remove it for a new key.", path
            )
