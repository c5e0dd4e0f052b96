"""Runs jobs, one per thread: executor, attempt pipeline, inputs, delivery, progress, leases and estimated ends.

The device belongs to `workers.engine`; states and transitions of a job belong to `jobs.service`.
"""
