"""The text of a key: `mma_` and 32 random bytes in base 62, so that a double click selects all of it."""

from __future__ import annotations

import hashlib
import re
import secrets
import string

PREFIX = "mma_"
RANDOM_BYTES = 32
# 62 ** 43 > 256 ** 32
DIGITS = 43
SHOWN_CHARS = len(PREFIX) + 6
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{DIGITS}}}", re.ASCII)


def new_key_text() -> str:
    """Return the text of a new key."""
    number = int.from_bytes(secrets.token_bytes(RANDOM_BYTES), "big")
    digits = []
    for _ in range(DIGITS):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return PREFIX + "".join(reversed(digits))


def is_key_text(text: str) -> bool:
    """Return whether a text has the form of a key, so that other texts cost no query."""
    return _FORM.fullmatch(text) is not None


def is_ours(text: str) -> bool:
    """Return whether a text was meant to be a key of this platform: it begins as they do."""
    return text.startswith(PREFIX)


def shown_prefix(text: str) -> str:
    """Return the part of a key that lists show."""
    return text[:SHOWN_CHARS]


def key_digest(text: str) -> str:
    """Return the SHA-256 that is stored of a key. Without a salt: nobody can guess 32 random bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
