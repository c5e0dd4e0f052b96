"""The procedural world: seeded scenes whose picture and sound come from the same events, at exact times.

A scene (`scene.py`) is a subject, which makes the sound, in a setting, which is silent. `picture.py` draws it at any
size and time, `sound.py` renders it at any rate, `video.py` writes both to a file. Uses no torch, no files and no
global state.

Held-out seeds: seeds from `scene.HELD_OUT_FROM` (1 000 000) on are for evaluation only; training draws below it.

Coordinates, in picture heights: x to the right from the middle of the picture, y up from the line on which the subject
stands. A square picture is the centre of a wide one, and sounding objects stay within |x| < 0.5.
"""
