"""The HTTP API and the dashboard, in Flask. Uses `jobs.service`; imports no torch."""
