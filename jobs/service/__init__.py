"""The only writer of job state. Each module is one part of a job's life; each function one step in a transaction.

Functions take the running `Transaction` first, so that several steps can be one unit of work; they never commit,
publish or touch the object store by themselves. `dispatch` is the exception that says so: it commits, then publishes.
"""
