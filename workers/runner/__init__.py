"""Runs one job at a time per thread: the executor, the attempt's pipeline, inputs, delivery, progress and leases."""
