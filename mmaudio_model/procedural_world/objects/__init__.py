"""The subjects of scenes, one a file: how each moves, looks, sounds and is called."""
