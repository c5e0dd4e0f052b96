"""The operator commands that talk to the database and the broker directly."""
