"""The engine thread that owns the device: batching, loaded models, memory limits, watchdog and utilization."""
