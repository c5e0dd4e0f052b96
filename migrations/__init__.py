"""Alembic revisions of the database. Depends on `jobs.db` and `jobs.settings`, nothing else."""
