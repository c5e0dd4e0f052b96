"""The calls of the client, each written once, as coroutines; `AsyncClient` has them as they are, `Client` blocking."""
