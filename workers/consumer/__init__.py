"""The Celery consumer of a worker process: its app, the queues it subscribes to, and stall detection.

Running a job does not belong here: that is `workers.runner`.
"""
