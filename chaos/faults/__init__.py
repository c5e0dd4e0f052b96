"""The faults that are injected, one function each; each returns what it did and leaves its part repaired."""
