"""What training reads: clips, made by the procedural world or read from a folder of videos, kept in shards."""
