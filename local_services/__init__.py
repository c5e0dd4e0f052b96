"""Real servers on loopback addresses for `tests/`, `chaos/` and `benchmarks/`: PostgreSQL, Valkey, S3, a faulty proxy.

Everything comes from wheels, so that a bare machine can run it. Not packaged: the product never imports it.
"""
