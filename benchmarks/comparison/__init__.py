"""Measures the published program and ours alike, each in a process of its own."""
