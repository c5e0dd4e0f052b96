"""Alembic revisions of the database. Imports nothing but `jobs.db` and `jobs.settings`."""
