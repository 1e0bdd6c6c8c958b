"""The processes that a supervisor knows, and what it knows of each."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct, field

from leanmq_topology.runner.marks import Board
from leanmq_topology.runner.supervisor.process import Downward, Main
from leanmq_topology.runner.supervisor.wire import NO_MEMORY_EXIT, Ended, Facts, Failed, Ready

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
GOOD_LIFE_SECONDS = 10.0


class Role(StrEnum):
    WORKER = "worker"
    SOLO = "solo"
    """Runs one message at a time: what may have taken a process down."""
    CORONER = "coroner"
    """Settles what a dead process held."""
    HELPER = "helper"
    """Something else that must not run in the parent, such as watching files."""


class State(StrEnum):
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Birth(Struct, frozen=True):
    """What a process is told of itself."""

    role: Role
    generation: int
    seat: int
    board: Board
    again: bool = False
    """It takes the place of one that ended."""


MakeWorker = Callable[[Birth], Main]
"""What a worker process of this generation does."""


class Process(Struct, eq=False):
    pid: int
    line: Downward
    role: Role
    generation: int
    seat: int
    """Which of the `--workers` it is; a replacement takes the seat of its predecessor."""
    board: Board
    started_at: float = field(default_factory=time.monotonic)
    state: State = State.STARTING
    ready: Ready | None = None
    facts: Facts | None = None
    failed: Failed | None = None
    ended: Ended | None = None
    killed: bool = False
    """By the supervisor; what it ran then is not to blame."""
    overdue: bool = False
    """Killed because it did not drain in time."""

    @property
    def name(self) -> str:
        """On the server, once it is known."""
        return self.ready.worker if self.ready else ""

    @property
    def loop_age_seconds(self) -> float:
        """How long ago its event loop last gave a sign of life."""
        return time.monotonic() - (self.board.beaten_at or self.started_at)


class Generation(Struct):
    """Processes that run the same code and topology."""

    number: int
    seats: int = 1
    members: dict[int, Process] = field(default_factory=dict)
    """Those that live, by seat."""
    begun_at: float = field(default_factory=time.monotonic)

    @property
    def serves(self) -> bool:
        """Every seat is taken by somebody who reads."""
        serving = sum(member.state is State.SERVING for member in self.members.values())
        return serving == self.seats

    def leave(self, process: Process) -> bool:
        """Its seat is empty now; False if it was somebody else's already."""
        if self.members.get(process.seat) is not process:
            return False
        del self.members[process.seat]
        return True


class Backoff(Struct):
    """How long a seat stays empty after a death: not at all after a good life, else longer and longer."""

    deaths: int = 0

    def pause_after(self, lived_seconds: float, settled: int) -> float:
        """A process that settled anything, or lived for a while, was no failure of the start."""
        if settled or lived_seconds >= GOOD_LIFE_SECONDS:
            self.deaths = 0
            return FIRST_PAUSE_SECONDS
        self.deaths += 1
        return float(min(FIRST_PAUSE_SECONDS * 2 ** (self.deaths - 1), LONGEST_PAUSE_SECONDS))


def describe_status(status: int) -> str:
    """What `waitpid` says, in words: `exit code 1`, `SIGSEGV`."""
    if status == NO_MEMORY_EXIT:
        return f"no memory was left in it (exit code {status})"
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
