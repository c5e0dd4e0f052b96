"""The domain that the API and the workers share: requests, lifecycle, tables, service, storage, queue, settings.

Independent of Flask, of the model and of torch; importing it has no effects.
"""
