"""What a process and its supervisor tell each other, and how that is written: one JSON object a line."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from leanmq_topology import errors
from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.errors import InvalidTopologyError, LeanMQError

BUG_EXIT = 70
NO_MEMORY_EXIT = 71
"""Of a worker process that found no memory for its own work."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process reads messages from now on; sent before the first handler starts."""

    worker: str
    """Its name on the server."""
    url: str
    """The server, as whoever buries the process has to open it. It may hold a password: never print it."""
    namespace: str
    folder: str
    queues: tuple[str, ...]
    """In the order by which its marks number them."""
    handlers: tuple[str, ...]


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """Topology and code are loaded, or failed to be, or more was imported later: this was read for it."""

    files: Mapping[str, str]
    """Digest of the content by path; empty for a file that was looked for in vain."""
    folders: Mapping[str, str] = {}
    """Digest of the names in it by path, where something that is missing may come."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The process cannot start, or cannot go on: it ends, and holds nothing."""

    kind: str
    """Name of the error's class."""
    message: str
    hint: str | None = None
    exit_code: int = 1
    diagnostics: tuple[Diagnostic, ...] = ()


class Facts(msgspec.Struct, frozen=True, tag="facts"):
    """What a worker does, when it changed, at most once a second."""

    handlers: Mapping[str, Mapping[str, int]]
    """By handler: `held`, `running`, and how often each outcome was decided."""
    lag_seconds: float = 0.0
    """How late the event loop was at worst since the last facts."""
    problems: tuple[str, ...] = ()
    """Why it cannot do its work right now, in words."""


class Waiting(msgspec.Struct, frozen=True, tag="waiting"):
    """Messages that may be dangerous wait for a process of their own, in these queues."""

    queues: tuple[str, ...]


class Draining(msgspec.Struct, frozen=True, tag="draining"):
    """The process drains of its own accord: it cannot go on, and another one is to take its place."""

    reason: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The process is done and about to end."""

    clean: bool
    """Everything that it read is settled or handed back."""
    counts: Mapping[str, int]
    worker: str = ""


class Note(msgspec.Struct, frozen=True, tag="note"):
    """From a process that is no worker, in its own words."""

    about: str
    details: tuple[str, ...] = ()


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """To a process: drain and end."""


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded"):
    """To a process: what came of the newest edit, for whoever asks how the workers are."""

    generation: int
    refused: str = ""
    """Why it does not serve, in a line; empty: it does."""


Message = Reloaded | Ready | Loaded | Failed | Facts | Waiting | Draining | Ended | Note | Stop

_decoder = msgspec.json.Decoder(Message)
_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    return _encoder.encode(message) + b"\n"


class Lines:
    """Puts messages together from the bytes of a stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_decoder.decode(line) for line in lines]


def describe_failure(failure: BaseException) -> Failed:
    """An error on its way to the supervisor."""
    if isinstance(failure, InvalidTopologyError):
        found = tuple(failure.diagnostics)
        return Failed(type(failure).__name__, str(failure), exit_code=failure.exit_code, diagnostics=found)
    if isinstance(failure, LeanMQError):
        return Failed(type(failure).__name__, failure.message, failure.hint, failure.exit_code)
    return Failed(type(failure).__name__, str(failure) or type(failure).__name__, exit_code=BUG_EXIT)


def revive_failure(failed: Failed) -> LeanMQError:
    """The error that a process met, to be reported as if it had been met here."""
    if failed.diagnostics:
        return InvalidTopologyError(failed.diagnostics)
    kind = getattr(errors, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, LeanMQError)):
        return ProcessError(failed.message, failed.exit_code)
    error = kind.__new__(kind)
    error.args = (failed.message,)
    error.hint = failed.hint
    return error


class ProcessError(LeanMQError):
    """A worker process ended with something that is not one of our errors; it has said so itself."""

    def __init__(self, message: str, exit_code: int = BUG_EXIT) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]
