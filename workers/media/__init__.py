"""Strangers' files are read here, each in a process of its own that can hurt nothing but itself."""
