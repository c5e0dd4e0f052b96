"""Weights: published files, bundled files, or a fixed seed. Networks are built empty and filled once."""
