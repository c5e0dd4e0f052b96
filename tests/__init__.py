"""The tests. unit: no sockets. contract: one suite on every backend. integration and e2e: the real servers."""
