"""Fault injection: breaks the platform's parts while jobs run, then checks every job (`make chaos`)."""
