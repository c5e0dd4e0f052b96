"""The MMAudio family of models: networks, checkpoints, pipeline, media, local commands.

Independent of jobs, HTTP, SQL and S3. Importing this package imports nothing else, torch included.
"""
