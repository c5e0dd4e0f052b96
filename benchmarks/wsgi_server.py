"""granian compared with gunicorn (gthread) under the same app: `python -m benchmarks.wsgi_server`.

Needs `pip install gunicorn` for the comparison. One process and 32 threads each; three loads: GET of a job by 8
clients, submission by 4 clients, GET during 20 long polls.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from benchmarks.serving import GRANIAN, GUNICORN, api_server, percentile

REQUESTS = 800
LONG_POLLS = 20


def main() -> None:
    servers = [GRANIAN, GUNICORN] if importlib.util.find_spec("gunicorn") else [GRANIAN]
    print(f"{'server':<10}{'load':<26}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for server in servers:
        with api_server(server) as url:
            job = httpx.post(f"{url}/v1/jobs", json={"prompt": "x"}).json()
            path = job["links"]["self"]
            _row(server, "GET, 8 clients", _load(url, "GET", path, clients=8))
            _row(server, "POST, 4 clients", _load(url, "POST", "/v1/jobs", clients=4))
            waiting = threading.Barrier(LONG_POLLS + 1)
            with ThreadPoolExecutor(LONG_POLLS) as pool:
                polls = [pool.submit(_long_poll, url, path, waiting) for _ in range(LONG_POLLS)]
                waiting.wait()
                time.sleep(0.5)
                _row(server, f"GET, {LONG_POLLS} long polls", _load(url, "GET", path, clients=4))
                httpx.post(f"{url}{path}/cancel")
                assert all(poll.result() == 200 for poll in polls)


def _long_poll(url: str, path: str, waiting: threading.Barrier) -> int:
    waiting.wait()
    return httpx.get(f"{url}{path}?wait=60", timeout=90).status_code


def _load(url: str, method: str, path: str, *, clients: int) -> tuple[float, list[float]]:
    """Return requests per second and the seconds of each request."""

    def one_client(count: int) -> list[float]:
        seconds = []
        with httpx.Client(base_url=url, trust_env=False) as client:
            for _ in range(count):
                began = time.perf_counter()
                client.request(method, path, json={"prompt": "x"} if method == "POST" else None).raise_for_status()
                seconds.append(time.perf_counter() - began)
        return seconds

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(one_client, [REQUESTS // clients] * clients))
    return REQUESTS / (time.perf_counter() - began), [second for result in results for second in result]


def _row(server: str, load: str, measured: tuple[float, list[float]]) -> None:
    rate, seconds = measured
    print(f"{server:<10}{load:<26}{rate:>12.0f}{percentile(seconds, 0.5):>9.2f}{percentile(seconds, 0.99):>9.2f}")


if __name__ == "__main__":
    main()
