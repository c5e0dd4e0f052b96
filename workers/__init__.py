"""Celery workers: the engine that owns a device, the tasks around it, and the processes that keep all running."""
