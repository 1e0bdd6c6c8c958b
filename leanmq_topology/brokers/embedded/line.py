"""The command's end of the control socket: asks a running keeper, and checks that its server is its own."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from leanmq_topology.brokers.embedded.folder import StateFolder, explain_file_error
from leanmq_topology.brokers.embedded.keeper import CONTROL_NAME
from leanmq_topology.brokers.embedded.server import ask_server
from leanmq_topology.errors import BrokerRefusedError, BrokerUnavailableError

READY_SECONDS = 60.0
"""How long a command waits for the server to start and to read its data."""
CLOSE_SECONDS = 15.0
"""How long a command waits for the server to stop; the keeper's own limit is shorter."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a keeper says about its server."""

    keeper_pid: int
    server_pid: int
    socket: str
    data: str
    server_name: str
    server_version: str
    started_at: float
    """Seconds since 1970."""
    pinned: bool
    holders: tuple[dict[str, Any], ...]
    """`pid` and `name` of each command that uses it."""
    ending: bool
    """The keeper stops the server now; the line closes when all is gone."""
    unwritten: bool = False
    """Its disk has no room for what it answered for: it stays until there is."""

    @classmethod
    def from_answer(cls, answer: dict[str, Any]) -> ServerFacts:
        return cls(**{**answer, "holders": tuple(answer["holders"])})

    @property
    def url(self) -> str:
        """What any Redis client can connect to while the server runs."""
        return f"unix://{quote(self.socket)}"


@dataclass(slots=True)
class KeeperLine:
    """A connection to a keeper; it closes from the far end only when the keeper ends."""

    connection: socket.socket
    received: bytes = b""

    @classmethod
    def connect(cls, path: Path) -> KeeperLine:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(READY_SECONDS)
            connection.connect(str(path))
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    def ask(self, verb: str, **request: Any) -> ServerFacts | None:
        """The facts once the request is carried out; None if the keeper ended instead of answering.

        Raises `BrokerUnavailableError` if the server could not start, or the keeper is silent for too long.
        """
        try:
            with suppress(
                BrokenPipeError
            ):  # a keeper that cannot start says so without waiting for a request
                self.connection.sendall(json.dumps({"do": verb, **request}).encode() + b"\n")
            line = self._read_line()
        except TimeoutError:
            raise BrokerUnavailableError(
                f"the embedded broker gave no answer within {READY_SECONDS:.0f} s",
                hint="it may be reading much data: try again, and see .leanmq/server.log",
            ) from None
        except OSError:
            return None
        return self._read_answer(json.loads(line)) if line else None

    def _read_answer(self, answer: dict[str, Any]) -> ServerFacts:
        if "error" in answer:
            reason, hint = answer["error"]["message"], answer["error"]["hint"]
            raise BrokerUnavailableError(f"the embedded broker did not start: {reason}", hint=hint)
        return ServerFacts.from_answer(answer)

    def _read_line(self) -> bytes | None:
        while b"\n" not in self.received:
            more = self.connection.recv(65536)
            if not more:
                return None
            self.received += more
        line, _, self.received = self.received.partition(b"\n")
        return line

    def wait_until_closed(self) -> bool:
        """Whether the keeper ended in time."""
        self.connection.settimeout(CLOSE_SECONDS)
        try:
            while self.connection.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    @property
    def is_open(self) -> bool:
        return self.connection.fileno() != -1

    def close(self) -> None:
        self.connection.close()


def call_keeper(state: StateFolder) -> KeeperLine | None:
    """A line to the keeper of this folder, or None if there is none. Starts and writes nothing."""
    runtime = state.read_runtime()
    if runtime is None:
        return None
    try:
        return KeeperLine.connect(runtime / CONTROL_NAME)
    except (FileNotFoundError, ConnectionError):
        return None
    except OSError as failure:
        raise explain_file_error(failure, runtime) from failure


def check_identity(facts: ServerFacts) -> None:
    """Refuse a server that is not the keeper's own child, whatever answers on the socket."""
    answer = ask_server(facts.socket)
    found = answer[0].get("process_id") if answer else None
    if found != str(facts.server_pid):
        who = f"another server (pid {found})" if found else "no server"
        raise BrokerRefusedError(
            f"{who} answers on {facts.socket}, where this folder's own (pid {facts.server_pid}) should",
            hint="run `leanmq server stop --force`, then try again",
        )
