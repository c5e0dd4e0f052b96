"""Initial values of the networks that are trained from scratch."""
