"""The subjects of scenes, one per file: motion, picture, sound and captions."""
