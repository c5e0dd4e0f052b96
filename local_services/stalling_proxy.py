"""A TCP proxy that can stop passing bytes on, as a suspended server or a network without a route does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class StallingProxy:
    """Passes bytes between callers and a backend, until it is told to stall: then it accepts and answers nothing.

    Attributes:
        backend: host and port, or the path of a socket file.
        port: where callers connect, on 127.0.0.1.
        accepted: connections until now.
    """

    backend: tuple[str, int] | str
    port: int = 0
    accepted: int = 0
    _flowing: threading.Event = field(default_factory=threading.Event)
    _closing: threading.Event = field(default_factory=threading.Event)
    _sockets: list[socket.socket] = field(default_factory=list)

    def stall(self) -> None:
        """Pass nothing on from now."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what was held, and all that follows."""
        self._flowing.set()

    def cut(self) -> None:
        """Break the connections there are; new ones are accepted."""
        cut, self._sockets[:] = list(self._sockets), []
        for one in cut:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._connect, args=(caller,), daemon=True).start()

    def _connect(self, caller: socket.socket) -> None:
        self._sockets.append(caller)
        self._flowing.wait()
        if self._closing.is_set():
            return
        try:
            backend = self._backend_connection()
        except OSError:
            caller.close()
            return
        self._sockets.append(backend)
        for source, target in ((caller, backend), (backend, caller)):
            threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _backend_connection(self) -> socket.socket:
        if not isinstance(self.backend, str):
            backend = socket.create_connection(self.backend, timeout=10)
            backend.settimeout(None)
            return backend
        backend = socket.socket(socket.AF_UNIX)
        backend.connect(self.backend)
        return backend

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._flowing.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _close(self) -> None:
        self._closing.set()
        self._flowing.set()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextlib.contextmanager
def stalling_proxy(backend: tuple[str, int] | str) -> Iterator[StallingProxy]:
    """Run a proxy in front of a server, given by address or socket file; it passes on until `stall` is called."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        proxy = StallingProxy(backend, server.getsockname()[1])
        proxy.resume()
        threading.Thread(target=proxy._serve, args=(server,), name="stalling-proxy", daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown(socket.SHUT_RDWR)
            proxy._close()
