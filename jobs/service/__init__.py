"""The only writer of job state: each module is one part of a job's life.

Functions that take a `Transaction` first are steps of a unit of work: they never commit, publish or use the object
store. Use cases take a `Database`: they commit by themselves, and may publish (`dispatch`) or store (`uploads`).
"""
