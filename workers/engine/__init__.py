"""The engine thread that owns the device: batching, loaded models, memory limits, watchdog and utilization.

Jobs, SQL and files do not belong here: those are in `workers.runner`.
"""
