"""Judging sound: how well it fits what was seen and said. Measures here, `mmaudio eval` is the command.

Every measure is a small pure function on arrays. Nothing here trains or changes the model that is judged; settings
were chosen on training seeds of the world (`mmaudio_model.procedural_world`), never on held-out ones.
"""
