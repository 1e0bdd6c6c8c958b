"""TLS in front of a server that has none built in: from a loopback port to its Unix socket."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Self

from tests.support.certificates import Certificate


class TlsFront:
    """Listens with one certificate at a time; `show` changes it for the connections to come."""

    def __init__(self, upstream: Path, certificate: Certificate, *, client_authority: Path | None = None):
        self._upstream, self._client_authority = upstream, client_authority
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self.show(certificate)

    def show(self, certificate: Certificate) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.path, certificate.key)
        if self._client_authority is not None:
            context.load_verify_locations(self._client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
        self._context = context

    def cut(self) -> None:
        """End every connection there is."""
        for end in self._sockets[1:]:
            _end(end)
        del self._sockets[1:]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._sockets:
            _end(end)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            raw.settimeout(10)
            client = self._context.wrap_socket(raw, server_side=True)
            client.settimeout(None)
        except (OSError, ssl.SSLError):
            raw.close()
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._upstream))
        self._sockets += [client, server]
        threading.Thread(target=_carry, args=(server, client), daemon=True).start()
        _carry(client, server)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while chunk := source.recv(1 << 16):
            sink.sendall(chunk)
    _end(source)
    _end(sink)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()
