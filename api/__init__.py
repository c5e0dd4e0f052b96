"""Flask: HTTP in, HTTP out. Stores jobs through `jobs.service`, serves the dashboard; imports no torch."""
