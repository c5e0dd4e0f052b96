"""The calls of fal's queue, of its synchronous host and of its storage, as its clients make them.

The clients take hosts from the environment (`FAL_QUEUE_RUN_HOST`, `FAL_RUN_HOST`); both may have a path. The queue is
at the root (`/fal-ai/...`) and below `/fal/queue`, synchronous calls are below `/fal/run`.
"""
