"""Jobs in the shapes of hosted services, so that their clients work with this platform. Pure functions, no HTTP.

`api.compat` answers calls with them, `jobs.webhooks` sends them.
"""
