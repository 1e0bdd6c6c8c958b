"""A primary, its replica, and the line between them, which can be cut off without either end noticing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis import Redis

from tests.support.servers import Server, require_binary, start_on_tcp


class ReplicationLine:
    """Forwards loopback TCP to the primary; while held, nothing passes either way and nothing is closed."""

    def __init__(self, port: int) -> None:
        self._primary_port = port
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        self._flowing.set()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                replica, _ = self._listener.accept()
                primary = socket.create_connection(("127.0.0.1", self._primary_port))
                self._sockets += [replica, primary]
                for pair in ((replica, primary), (primary, replica)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                self._flowing.wait()
                sink.sendall(chunk)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Pair:
    """A primary and a replica that is in step."""

    primary: Server
    replica: Server
    line: ReplicationLine


@contextmanager
def start_pair(kind: str, *arguments: str) -> Iterator[Pair]:
    """Two servers of one kind, each with these arguments too."""
    common = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "60", *arguments)
    port, primary = start_on_tcp(kind, *common)
    line = ReplicationLine(port)
    replica = Server(
        kind, require_binary(kind), arguments=("--replicaof", "127.0.0.1", str(line.port), *common)
    )
    try:
        replica.start()
        _await_replica(primary)
        yield Pair(primary, replica, line)
    finally:
        line.close()
        replica.stop()
        primary.stop()


def _await_replica(primary: Server) -> None:
    """A server cannot signal to a third party that a replica is in step."""
    deadline = time.monotonic() + 20
    while ask(primary, "INFO", "replication").get("slave0", {}).get("state") != "online":
        assert time.monotonic() < deadline, "the replica never got in step"
        time.sleep(0.02)
    # It is called online before it has loaded what it was given; only then does it confirm anything in time.
    with Redis(unix_socket_path=str(primary.socket_path), protocol=2) as client:
        client.set("in step", 1)
        client.delete("in step")
        assert client.wait(1, 20_000) == 1, "the replica never confirmed a write"


def ask(server: Server, *words: str) -> Any:
    """One command to a server of whichever role; our own connections refuse replicas."""
    with Redis(unix_socket_path=str(server.socket_path), protocol=2) as client:
        return client.execute_command(*words)
