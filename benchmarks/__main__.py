"""`make bench`: runs every benchmark, one after the other."""

from __future__ import annotations

import sys

from benchmarks import api_latency, backlog, workers, world, wsgi_server

if __name__ == "__main__":
    for benchmark in (api_latency, wsgi_server, backlog, world, workers):
        print(f"== {benchmark.__name__}", flush=True)
        benchmark.main()
    sys.exit(0)
