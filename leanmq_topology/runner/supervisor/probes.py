"""`/livez`, `/readyz` and `/metrics`, answered by the parent's own loop, also while a worker is stuck."""

from __future__ import annotations

import contextlib
import json
import logging
import selectors
import socket
from collections.abc import Callable

from leanmq_topology.errors import SettingError
from leanmq_topology.runner.supervisor import health
from leanmq_topology.runner.supervisor.metrics import CONTENT_TYPE, render_metrics
from leanmq_topology.runner.supervisor.supervisor import Supervisor

logger = logging.getLogger("leanmq.runner")

LARGEST_REQUEST = 8192
MOST_CONNECTIONS = 32
PATIENCE_SECONDS = 5.0
"""For a request to come whole and its answer to be taken."""
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

Answer = tuple[int, str, str]
"""Status, content type, body."""


def listen(host: str, port: int) -> socket.socket:
    """Raises `SettingError` where nobody may listen."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as failure:
        raise SettingError("--port", f"cannot listen on {host}:{port}: {failure.strerror}") from failure


class Probes:
    """Serves as long as the supervisor runs; the socket stays the caller's."""

    def __init__(self, supervisor: Supervisor, listening: socket.socket, version: str) -> None:
        self._supervisor, self._listening, self._version = supervisor, listening, version
        self._open: set[Connection] = set()
        self.answered = 0
        """How many connections have come to their end."""
        listening.setblocking(False)

    def start(self) -> None:
        """Called before the first process is forked."""
        self._supervisor.turns.watch(self._listening, self._accept)
        self._supervisor.close_in_children(self._leave)

    def answer(self, method: str, path: str) -> Answer:
        if method not in {"GET", "HEAD"}:
            return 405, "text/plain", "only GET and HEAD\n"
        match path.partition("?")[0]:
            case "/livez":
                problems = health.find_stuck(self._supervisor)
                return (503 if problems else 200), "text/plain", "\n".join(problems or ["live"]) + "\n"
            case "/readyz":
                found = health.describe(self._supervisor)
                return (
                    (200 if found["ready"] else 503),
                    "application/json",
                    json.dumps(found, indent=2) + "\n",
                )
            case "/metrics":
                return 200, CONTENT_TYPE, render_metrics(self._supervisor, self._version)
            case _:
                return 404, "text/plain", "there are /livez, /readyz and /metrics\n"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            accepted, _ = self._listening.accept()
            if len(self._open) >= MOST_CONNECTIONS:
                accepted.close()
                return
            self._open.add(Connection(self._supervisor, accepted, self.answer, self._forget))

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listening.getsockname()[:2]
        return str(host), int(port)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self.answered += 1

    def _leave(self) -> None:
        self._listening.close()
        for connection in self._open:
            connection.socket.close()


class Connection:
    """One request, one answer."""

    def __init__(
        self,
        supervisor: Supervisor,
        accepted: socket.socket,
        answer: Callable[[str, str], Answer],
        gone: Callable[[Connection], None],
    ) -> None:
        self.socket = accepted
        self._turns, self._answer, self._gone = supervisor.turns, answer, gone
        self._request, self._response = b"", b""
        accepted.setblocking(False)
        self._turns.watch(accepted, self._read)
        self._deadline = self._turns.after(PATIENCE_SECONDS, self._close)

    def _read(self) -> None:
        try:
            data = self.socket.recv(LARGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._request += data
        if b"\r\n\r\n" in self._request or len(self._request) > LARGEST_REQUEST:
            self._response = self._respond()
            self._turns.forget(self.socket)
            self._turns.watch(self.socket, self._write, selectors.EVENT_WRITE)

    def _respond(self) -> bytes:
        words = self._request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        known = len(words) == 3 and words[2].startswith("HTTP/") and len(self._request) <= LARGEST_REQUEST
        status, kind, body = 400, "text/plain", "no request\n"
        if known:
            try:
                status, kind, body = self._answer(words[0], words[1])
            except Exception:
                logger.exception("a probe failed", extra={"event": "bug"})  # and that is all it may do
                status, body = 500, "a mistake in leanmq; the log has it\n"
        encoded = body.encode()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(encoded)}\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n"
        )
        return head.encode() + (b"" if words[0] == "HEAD" else encoded)

    def _write(self) -> None:
        try:
            self._response = self._response[self.socket.send(self._response) :]
        except BlockingIOError:
            return
        except OSError:
            self._response = b""
        if not self._response:
            self._close()

    def _close(self) -> None:
        self._deadline.cancel()
        with contextlib.suppress(KeyError, ValueError):
            self._turns.forget(self.socket)
        self.socket.close()
        self._gone(self)
