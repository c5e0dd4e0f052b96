"""A video with its new sound: what will happen to it (`plan`), the copy, the re-encoding, and the written file."""
