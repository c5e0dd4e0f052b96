"""An API with TLS beside a running platform, as a gateway in front of it would be: same database, queue and store."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from werkzeug.serving import WSGIRequestHandler, make_server

from api.app import create_app
from api.context import EXTENSION
from jobs.api_keys.scope import DEFAULT_TENANT, KeyScope
from jobs.api_keys.service import create_key
from jobs.settings import Settings


@dataclass(frozen=True)
class TlsServer:
    """Where it answers, the file with the certificate that clients have to trust, and a key that it demands."""

    host: str
    certificate: Path
    key: str


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        pass


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


@contextlib.contextmanager
def tls_server(data_dir: Path, folder: Path) -> Iterator[TlsServer]:
    """Serve the API of the platform in `data_dir` with TLS, for callers with a key, while the block runs."""
    certificate, private_key = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private_key)
    app = create_app(Settings(data_dir=data_dir, access_log=False, require_api_key=True))
    with app.extensions[EXTENSION].database.of_platform().transaction() as tx:
        scopes = {KeyScope.JOBS_READ, KeyScope.JOBS_WRITE}
        key = create_key(tx, tenant=DEFAULT_TENANT, name="", scopes=scopes, expires_at=None, actor="test").text
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context, request_handler=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, name="tls-server", daemon=True)
    thread.start()
    umask = os.umask(0o077)  # as every process of the platform has it; this server writes into its data folder
    try:
        yield TlsServer(f"127.0.0.1:{server.server_port}", certificate, key)
    finally:
        os.umask(umask)
        server.shutdown()
        thread.join()
        server.server_close()
