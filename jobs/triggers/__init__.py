"""Bucket triggers: `event_parsers` reads messages, `rule` defines triggers, `ingestion` makes the jobs.

Independent of the sources of events, which are `api.routes.s3_events` and `workers.event_sources`.
"""
