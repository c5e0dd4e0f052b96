"""The first admin key: made where keys are required and there is none, and kept in a file of the data folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from jobs.api_keys.scope import DEFAULT_TENANT, KeyScope
from jobs.api_keys.service import create_key, has_admin_key
from jobs.db.database import Database

FILE_NAME = "admin.key"
_DRAFT_PREFIX = ".admin-"


def make_first_key(db: Database, data_dir: Path, *, actor: str) -> str | None:
    """Make an admin key unless there is a valid one; return its text, None where none was made.

    Its file is written before the commit: a key that nobody knows must not count as the first one.

    Raises:
        OSError: the file cannot be written; no key is made.
    """
    with db.of_platform().transaction() as tx:
        if has_admin_key(tx):
            return None
        new = create_key(
            tx, tenant=DEFAULT_TENANT, name="first admin key", scopes={KeyScope.ADMIN}, expires_at=None, actor=actor
        )
        _write(data_dir / FILE_NAME, new.text)
    return new.text


def kept_key(data_dir: Path) -> str | None:
    """Return the key in the file; None where there is no file that can be read."""
    try:
        return (data_dir / FILE_NAME).read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _write(path: Path, text: str) -> None:
    """Write a file of mode 0600 as a whole."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=_DRAFT_PREFIX)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
