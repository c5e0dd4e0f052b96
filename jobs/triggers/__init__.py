"""From bucket events to jobs: `forms` reads what arrives, `rule` says what a trigger is, `ingestion` makes the jobs.

Nothing here knows where an event came from; the sources are `api.routes.s3_events` and `workers.event_sources`.
"""
