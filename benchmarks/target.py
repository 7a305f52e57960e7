"""The server that all peers send to: it answers at once, and is not the bottleneck.

nginx with fixed replies where it is installed, on a core of its own; else `fixed_reply`.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from benchmarks.cores import SERVER, pinned
from benchmarks.replies import REPLIES

__all__ = ["Target", "server_name", "serving"]

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        listen 127.0.0.1:{tls_port} ssl backlog=1024;
        ssl_certificate {folder}/chain.pem;
        ssl_certificate_key {folder}/key.pem;
        {locations}
    }}
}}
"""


@frozen
class Target:
    """Where it listens; `authority` is a file with the certificate to trust."""

    plain: str
    tls: str
    authority: str

    def url(self, *, over_tls: bool) -> str:
        return self.tls if over_tls else self.plain


def server_name() -> str:
    """Which server it is, with its version."""
    if nginx := shutil.which("nginx"):
        shown = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True)
        return shown.stderr.strip().removeprefix("nginx version: ")
    return "benchmarks.fixed_reply"


@contextmanager
def serving() -> Iterator[Target]:
    """A running target."""
    with TemporaryDirectory(prefix="benchmarks-") as name:
        folder = Path(name)
        _write_certificate(folder)
        port, tls_port = _unused_port(), _unused_port()
        with pinned(SERVER):
            server = subprocess.Popen(_command(folder, port, tls_port))
        try:
            _await_listening(server, port)
            _await_listening(server, tls_port)
            yield Target(
                f"http://127.0.0.1:{port}",
                f"https://localhost:{tls_port}",
                str(folder / "authority.pem"),
            )
        finally:
            server.terminate()
            server.wait()


def _command(folder: Path, port: int, tls_port: int) -> list[str]:
    nginx = shutil.which("nginx")
    if nginx is None:
        chain = [str(folder / "chain.pem"), str(folder / "key.pem")]
        return [sys.executable, "-m", "benchmarks.fixed_reply", str(port), str(tls_port), *chain]
    locations = "\n".join(
        f"location = {path} {{ return 200 '{body}'; }}" for path, body in REPLIES.items()
    )
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX.format(folder=folder, port=port, tls_port=tls_port, locations=locations)
    )
    return [nginx, "-c", str(config), "-e", str(folder / "error.log")]


def _write_certificate(folder: Path) -> None:
    import trustme  # noqa: PLC0415 - 15 MB that the measured processes do without

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(folder / "chain.pem"), append=True)


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _await_listening(server: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the target server did not start (exit status {server.poll()})")
