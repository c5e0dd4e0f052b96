"""A web server on one address of this machine, with or without TLS, for the calls to URLs from outside."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Reply = bytes | Callable[[socket.socket], None]


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """Return an answer in bytes; `content_length=""` leaves the length out."""
    given = {"content_length": str(len(body)), "connection": "close", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


@dataclass
class WebServer:
    """Answers each connection with what is set for the path; remembers the requests.

    Attributes:
        replies: by path with query: the bytes of the whole answer, or a function that writes to the connection.
        requests: head and body of each request, as they came.
    """

    host: str
    port: int
    replies: dict[str, Reply] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


@contextlib.contextmanager
def web_server(host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """Serve on a free port of an address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=64) as listener:
        server = WebServer(host, listener.getsockname()[1])
        closed = threading.Event()

        def accept() -> None:
            while not closed.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    server.connections += 1
                    threading.Thread(target=_serve, args=(server, connection, tls), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            closed.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _serve(server: WebServer, connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError), connection:
        if tls is not None:
            connection = tls.wrap_socket(connection, server_side=True)
        request = _request(connection)
        server.requests.append(request)
        path = request.split(b" ", 2)[1].decode() if request.count(b" ") > 1 else ""
        reply = server.replies.get(path, answer(b"nothing", "404 Not Found"))
        if callable(reply):
            reply(connection)
        else:
            connection.sendall(reply)
        connection.close()


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (piece := connection.recv(65_536)):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length and (piece := connection.recv(65_536)):
        body += piece
    return head + b"\r\n\r\n" + body


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """Return the context of a server with a certificate for names and addresses, and the file that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    ca_file, both = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(signed.public_bytes(Encoding.PEM))
    both.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + signed.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, ca_file


def _general_name(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)
