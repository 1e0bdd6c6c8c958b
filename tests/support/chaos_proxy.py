"""A proxy between a client and a server's socket that loses or holds back answers exactly when told to."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Self


class ChaosProxy:
    """Listens on a Unix socket of its own and forwards to `upstream`."""

    def __init__(self, upstream: Path) -> None:
        self.upstream = upstream
        self.folder = Path(tempfile.mkdtemp(prefix="lmq-proxy-"))
        self.lost = 0
        """Answers that were lost so far."""
        self._to_lose = 0
        self._marker = b""
        self._flowing = threading.Event()
        self._flowing.set()
        self.holding = threading.Event()
        """Set while at least one answer is being held back."""
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def url(self) -> str:
        return f"unix://{self.folder / 's'}"

    def lose_answers(self, count: int, *, to: bytes) -> None:
        """Cut the connection instead of answering the next `count` requests that contain `to`.

        The server has carried such a request out by then.
        """
        self._to_lose, self._marker = count, to

    def hold_answers(self) -> None:
        self.holding.clear()
        self._flowing.clear()

    def release_answers(self) -> None:
        self._flowing.set()

    def __enter__(self) -> Self:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / "s"))
        listener.listen()
        self._sockets.append(listener)
        self._start(self._accept, listener)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._flowing.set()
        for end in self._sockets:
            _end(end)
        for thread in self._threads:
            thread.join(5)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self.upstream))
            self._sockets += [client, server]
            doomed = threading.Event()
            self._start(self._carry_requests, client, server, doomed)
            self._start(self._carry_answers, server, client, doomed)

    def _carry_requests(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(1 << 20):
                if self._to_lose and self._marker in chunk:
                    self._to_lose -= 1
                    doomed.set()
                server.sendall(chunk)
        _end(server)

    def _carry_answers(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(1 << 20):
                if doomed.is_set():
                    self.lost += 1
                    break
                if not self._flowing.is_set():
                    self.holding.set()
                    self._flowing.wait(30)
                client.sendall(chunk)
        _end(server)
        _end(client)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
