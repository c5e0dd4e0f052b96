"""The networks: one parameterised class each; attributes are named as the keys of the published checkpoints.

Letters in comments: B batch, N latent tokens, T CLIP frames, S synchronisation tokens, L any token count,
D width, H heads, C channels.
"""
