"""The option `--metadata KEY=VALUE`."""

from __future__ import annotations

import click


def metadata_pairs(given: tuple[str, ...]) -> dict[str, str]:
    """Return the pairs of `KEY=VALUE` texts.

    Raises:
        click.UsageError: a text is not of this form.
    """
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"Got --metadata {text!r}; give KEY=VALUE.")
        pairs[key] = value
    return pairs
