"""The networks: one parameterised class each; attribute names equal the keys of the published checkpoints.

Letters in comments: B batch, N latent tokens, T CLIP frames, S synchronisation tokens, L any token count,
D width, H heads, C channels.
"""
