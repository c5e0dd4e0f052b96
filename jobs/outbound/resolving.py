"""Looks a name up once, within a time limit: an attacker's name server may answer as slowly as it likes."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from jobs.outbound.addresses import Address
from jobs.outbound.errors import OutboundRefusedError, OutboundUnreachableError

# Look-ups of one process at once. The C library gives up by itself after 10 to 60 s, long after those who wait: slow
# name servers of one caller must not take the places of all others.
LOOKUPS = 512

Resolver = Callable[[str, int], list[str]]
"""Returns the addresses of a name, given its port too; raises `socket.gaierror`."""

_places = threading.BoundedSemaphore(LOOKUPS)


def system_resolver(host: str, port: int) -> list[str]:
    """Return what the system says, `/etc/hosts` included. An IPv6 address may have a zone."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def resolve(host: str, port: int, *, timeout_s: float, resolver: Resolver = system_resolver) -> tuple[Address, ...]:
    """Return all addresses of a name, in the order in which they should be tried; empty when there is none.

    Raises:
        OutboundUnreachableError: no answer in time.
    """
    if not _places.acquire(timeout=timeout_s):
        raise OutboundUnreachableError("Too many names are being looked up; try again later.")
    answer: Future[list[str]] = Future()
    threading.Thread(target=_look_up, args=(answer, host, port, resolver), name="look-up", daemon=True).start()
    try:
        found = answer.result(timeout_s)
        return tuple(dict.fromkeys(ipaddress.ip_address(text) for text in found))
    except FutureTimeoutError as exc:
        raise _no_answer(host) from exc
    except socket.gaierror as exc:
        if exc.errno == socket.EAI_AGAIN:
            raise _no_answer(host) from exc
        return ()
    except UnicodeError:  # a name that the resolver cannot encode
        return ()
    except (OSError, ValueError) as exc:
        raise OutboundRefusedError(f"The host {host!r} has no public address.") from exc


def _no_answer(host: str) -> OutboundUnreachableError:
    return OutboundUnreachableError(f"Looking up the host {host!r} gave no answer in time.")


def _look_up(answer: Future[list[str]], host: str, port: int, resolver: Resolver) -> None:
    try:
        answer.set_result(resolver(host, port))
    except BaseException as exc:
        answer.set_exception(exc)
    finally:
        _places.release()
