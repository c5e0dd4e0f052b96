"""Breaks the platform's parts while it works, and counts what became of every job: `make chaos`."""
