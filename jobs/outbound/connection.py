"""A connection to an address that was judged, with one deadline for everything that happens on it.

httpcore looks the host up again where it connects; here it gets the address instead, while the Host header, the
server name of TLS and the check of the certificate keep the name.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpcore
import httpx

from jobs.outbound.addresses import Address

Clock = Callable[[], float]
_CHUNK_BYTES = 64 * 1024
# Between two calls of `interrupt` while nothing comes.
_LOOK_S = 1.0


class CertificateInvalidError(Exception):
    """Raised when a host shows no certificate that is valid for its name."""


class Deadline:
    """A moment after which every step of a call fails.

    Args:
        total_s: seconds from now.
        interrupt: called about every second; what it raises ends the call.
        clock: monotonic seconds.
    """

    def __init__(
        self, total_s: float, interrupt: Callable[[], None] = lambda: None, clock: Clock = time.monotonic
    ) -> None:
        self._clock, self._end, self.interrupt = clock, clock() + total_s, interrupt

    def limit(self, timeout_s: float | None) -> float:
        """Return the seconds that a step may take.

        Raises:
            httpcore.TimeoutException: the deadline has passed.
        """
        self.interrupt()
        remaining = self._end - self._clock()
        if remaining <= 0:
            raise httpcore.ReadTimeout("the time for the whole call is over")
        return remaining if timeout_s is None else min(timeout_s, remaining)


class PinnedBackend(httpcore.NetworkBackend):
    """Connects to one of the given addresses, whatever name it is asked for."""

    def __init__(self, addresses: tuple[Address, ...], deadline: Deadline) -> None:
        self._addresses, self._deadline = addresses, deadline

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - the name was looked up before
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        failure: OSError | None = None
        for address in self._addresses:
            try:
                connected = socket.create_connection((str(address), port), self._deadline.limit(timeout))
            except OSError as exc:
                failure = exc
            else:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _Stream(connected, self._deadline)
        raise httpcore.ConnectError("no connection") from failure


class _Stream(httpcore.NetworkStream):
    """A socket, whose every call ends by the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        idle = Deadline(self._deadline.limit(timeout))
        while True:
            try:
                self._sock.settimeout(min(self._deadline.limit(idle.limit(None)), _LOOK_S))
                return self._sock.recv(max_bytes)
            except TimeoutError:
                continue
            except OSError as exc:
                raise httpcore.ReadError(type(exc).__name__) from exc

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                self._sock.settimeout(self._deadline.limit(timeout))
                rest = rest[self._sock.send(rest[:_CHUNK_BYTES]) :]
        except TimeoutError as exc:
            raise httpcore.WriteTimeout("nothing taken in time") from exc
        except OSError as exc:
            raise httpcore.WriteError(type(exc).__name__) from exc

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._sock.settimeout(self._deadline.limit(timeout))  # of the whole handshake
            return _Stream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname), self._deadline)
        except TimeoutError as exc:
            self.close()
            raise httpcore.ConnectTimeout("no TLS handshake in time") from exc
        except ssl.SSLCertVerificationError as exc:
            self.close()
            raise CertificateInvalidError from exc
        except OSError as exc:  # ssl.SSLError is one
            self.close()
            raise httpcore.ConnectError(type(exc).__name__) from exc
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._sock if info == "socket" else None


@functools.lru_cache(maxsize=8)
def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return the context that checks certificates against public authorities, and those of a file."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
