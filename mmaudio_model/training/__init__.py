"""Training: the procedural world that the small model learns from."""
