"""What really happened, written down outside the server: one file a process, one line a record.

Every record is one `write` to a file opened for appending, so whatever a process wrote before SIGKILL is
there. (Only the loss of the whole machine could take it back, and these tests never lose the machine; the
file is synced when it is closed.) `at` is CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec


class Kind(StrEnum):
    INVOKE = "invoke"
    """A sender is about to send."""
    OK = "ok"
    FAIL = "fail"
    """The send was refused: surely not stored."""
    UNKNOWN = "unknown"
    """The send may have been stored."""
    START = "start"
    """A handler begins."""
    END = "end"
    """A handler ends; `note` is its outcome."""
    FAULT = "fault"
    """What was done to the system from `at` until `until`; `worker` is empty if it met all."""


class Outcome(StrEnum):
    """How a run ended, as the handler itself saw it."""

    DONE = "done"
    FAILED = "failed"
    DISCARDED = "discarded"
    REJECTED = "rejected"


class Fault(StrEnum):
    """What a nemesis did."""

    KILLED = "killed"
    """The worker got SIGKILL; it does nothing any more."""
    PAUSED = "paused"
    """The worker got SIGSTOP, and SIGCONT at `until`."""
    STOPPED = "stopped"
    """The worker was told to drain, and ended at `until`."""
    SERVER_KILLED = "server killed"
    """SIGKILL; it answers again at `until`."""
    SERVER_STALLED = "server stalled"
    """It answered nobody, or refused to write."""
    CONNECTIONS_CUT = "connections cut"
    OWNERSHIP_LOST = "ownership lost"
    """The record of who holds what was tampered with: group, consumer, key."""


@dataclass(frozen=True, slots=True)
class Record:
    kind: Kind
    at: float
    """Monotonic seconds, shared by all processes."""
    key: str = ""
    """Of the message: chosen by the sender, carried in its data, so that no id of the product is trusted."""
    queue: str = ""
    worker: str = ""
    attempt: int = 0
    note: str = ""
    until: float = 0.0
    """End of a fault."""
    wall: float = 0.0
    """Seconds since 1970 by the clock of the process."""
    redelivered: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


class History:
    """The file of one process. Safe in threads: a line is one write."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.jsonl"
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def invoke(self, key: str, *queues: str) -> None:
        """About to send one message that is to reach these queues."""
        self._each(Kind.INVOKE, key, queues)

    def settle(self, result: Kind, key: str, *queues: str, note: str = "") -> None:
        """The send ended as `OK`, `FAIL` or `UNKNOWN`."""
        self._each(result, key, queues, note)

    def start(self, key: str, queue: str, *, attempt: int, redelivered: bool) -> None:
        self._write(
            Record(
                Kind.START,
                time.monotonic(),
                key,
                queue,
                self.name,
                attempt,
                wall=time.time(),
                redelivered=redelivered,
            )
        )

    def end(self, key: str, queue: str, outcome: Outcome, *, attempt: int) -> None:
        self._write(
            Record(Kind.END, time.monotonic(), key, queue, self.name, attempt, outcome, wall=time.time())
        )

    def fault(self, fault: Fault, *, at: float, until: float | None = None, worker: str = "") -> None:
        """Something was done from `at` until `until` (for ever, if a worker was killed)."""
        self._write(Record(Kind.FAULT, at, worker=worker, note=fault, until=at if until is None else until))

    def close(self) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _each(self, kind: Kind, key: str, queues: Iterable[str], note: str = "") -> None:
        for queue in queues:
            self._write(Record(kind, time.monotonic(), key, queue, self.name, note=note, wall=time.time()))

    def _write(self, record: Record) -> None:
        os.write(self._file, _encode(record) + b"\n")


def read_histories(folder: Path) -> list[Record]:
    """All records of all processes, in the order of time. A torn last line of a killed process is dropped."""
    found = [record for path in sorted(folder.glob("*.jsonl")) for record in _read(path)]
    return sorted(found, key=lambda record: record.at)


def _read(path: Path) -> Iterator[Record]:
    lines = path.read_bytes().split(b"\n")
    lines.pop()  # empty, or torn by the death of its writer
    for line in lines:
        yield _decode(line)
