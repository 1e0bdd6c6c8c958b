"""A proxy between a client and a server's socket that loses, holds back or tears what passes, when told."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self


class ChaosProxy:
    """Listens on a Unix socket of its own and forwards to `upstream`."""

    def __init__(self, upstream: Path) -> None:
        self.upstream = upstream
        self.folder = Path(tempfile.mkdtemp(prefix="lmq-proxy-"))
        self.lost = 0
        """Answers that were lost so far."""
        self.dropped = 0
        """Requests that were lost so far."""
        self._to_lose = 0
        self._to_drop = 0
        self._marker = b""
        self._piece = 1 << 20
        self._answer_bytes: int | None = None
        self._latency_s = 0.0
        self._silent = threading.Event()
        self._flowing = threading.Event()
        self._flowing.set()
        self.holding = threading.Event()
        """Set while at least one answer is being held back."""
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        self.on_request: Callable[[bytes], None] = lambda chunk: None
        """Called, from any thread, with what was read in one go of what a client wrote."""

    @property
    def url(self) -> str:
        return f"unix://{self.folder / 's'}"

    def lose_answers(self, count: int, *, to: bytes) -> None:
        """Cut the connection instead of answering the next `count` requests that contain `to`.

        The server has carried such a request out by then.
        """
        self._to_lose, self._marker = count, to

    def lose_requests(self, count: int, *, to: bytes) -> None:
        """Cut the connection instead of passing the next `count` requests on that contain `to`."""
        self._to_drop, self._marker = count, to

    def tear_answers(self, size: int) -> None:
        """Pass answers on in pieces of at most so many bytes."""
        self._piece = size

    def slow_down(self, latency_s: float, *, piece: int) -> None:
        """Each piece of an answer, of at most so many bytes, and each request takes so long."""
        self._latency_s, self._piece = latency_s, piece

    def cut_after(self, answer_bytes: int) -> None:
        """Let so many more bytes of answers through, then cut the connection on which the next one comes."""
        self._answer_bytes = answer_bytes

    def cut_nothing(self) -> None:
        """Let everything through again."""
        self._answer_bytes = None

    def go_silent(self) -> None:
        """Pass nothing on any more, either way, on the connections there are; new ones work."""
        self._silent.set()
        self._silent = threading.Event()

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
            try:
                server.connect(str(self.upstream))
            except OSError:  # the server is down
                _end(server)
                _end(client)
                continue
            self._sockets += [client, server]
            doomed = threading.Event()
            self._start(self._carry_requests, client, server, doomed, self._silent)
            self._start(self._carry_answers, server, client, doomed, self._silent)

    def _carry_requests(
        self, client: socket.socket, server: socket.socket, doomed: threading.Event, silent: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(1 << 20):
                self.on_request(chunk)
                if silent.is_set():
                    continue
                if self._to_drop and self._marker in chunk:
                    self._to_drop -= 1
                    self.dropped += 1
                    _end(client)
                    break
                if self._to_lose and self._marker in chunk:
                    self._to_lose -= 1
                    doomed.set()
                time.sleep(self._latency_s)
                server.sendall(chunk)
        _end(server)

    def _carry_answers(
        self, server: socket.socket, client: socket.socket, doomed: threading.Event, silent: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(self._piece):
                if silent.is_set():
                    continue
                if doomed.is_set():
                    self.lost += 1
                    break
                if self._answer_bytes is not None:
                    chunk, self._answer_bytes = chunk[: self._answer_bytes], self._answer_bytes - len(chunk)
                    if self._answer_bytes < 0:
                        self._answer_bytes = None
                        self.lost += 1
                        client.sendall(chunk)
                        break
                if not self._flowing.is_set():
                    self.holding.set()
                    self._flowing.wait(30)
                time.sleep(self._latency_s)
                client.sendall(chunk)
        _end(server)
        _end(client)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
