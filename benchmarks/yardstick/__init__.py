"""Runs the published program and ours under the same stop-watch, each in a process of its own."""
