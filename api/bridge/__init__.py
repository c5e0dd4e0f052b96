"""Runs the WSGI app behind an ASGI server, so that slow clients wait in an event loop and not in its threads."""
