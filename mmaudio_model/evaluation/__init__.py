"""Evaluation metrics for generated sound; the command is `mmaudio eval`.

Every metric is a pure function on arrays. Nothing trains or changes the evaluated model. Thresholds were chosen on
training seeds of `mmaudio_model.procedural_world`, never on held-out ones.
"""
