"""The MMAudio family of models: networks, checkpoints, pipeline, media, local commands.

Knows nothing of jobs, HTTP, SQL or S3. Importing this package imports neither torch nor anything else.
"""
