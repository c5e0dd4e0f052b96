"""The domain that the API and the workers share: requests, lifecycle, tables, service, storage, queue, settings.

Nothing here knows of Flask, of the model or of torch; importing it does nothing.
"""
