"""Training data: clips from the procedural world or from a folder of videos, stored in shards."""
