"""`make bench`: runs every benchmark that needs nothing else, one after the other."""

from __future__ import annotations

import sys

from benchmarks import api_latency, backlog, connections, procedural_world, s3_clients, workers, wsgi_server

if __name__ == "__main__":
    for benchmark in (api_latency, wsgi_server, connections, backlog, s3_clients, procedural_world, workers):
        print(f"== {benchmark.__name__}", flush=True)
        benchmark.main()
    sys.exit(0)
