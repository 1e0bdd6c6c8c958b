"""What a supervisor does as processes come, speak and die. Nothing is forked: the test plays the system."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from leanmq_topology.errors import BrokerUnavailableError
from leanmq_topology.runner.marks import Board
from leanmq_topology.runner.supervisor import coroner, health, staff
from leanmq_topology.runner.supervisor import supervisor as module
from leanmq_topology.runner.supervisor.coroner import make_coroner
from leanmq_topology.runner.supervisor.listening import Listener
from leanmq_topology.runner.supervisor.members import Generation, Process, Role, State
from leanmq_topology.runner.supervisor.probes import Probes, listen
from leanmq_topology.runner.supervisor.process import Downward
from leanmq_topology.runner.supervisor.supervisor import Supervisor
from leanmq_topology.runner.supervisor.wire import (
    Ended,
    Failed,
    Lines,
    Loaded,
    Message,
    Ready,
    Stop,
    describe_failure,
    encode,
)


class System:
    """Processes that are only a number and the other end of a line."""

    def __init__(self) -> None:
        self.ends: dict[int, socket.socket] = {}
        self.dead: dict[int, int] = {}
        self.killed: list[tuple[int, int]] = []
        self.refuse_forks: set[int] = set()
        """Which forks fail, counted from 1."""
        self._forks = 0

    def fork(self, main: Any, leave: Callable[[], None]) -> tuple[int, Downward]:
        self._forks += 1
        if self._forks in self.refuse_forks:
            raise BlockingIOError("no more processes")
        ours, theirs = socket.socketpair()
        pid = 100_000 + self._forks
        self.ends[pid] = theirs
        return pid, Downward(ours)

    def kill(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))

    def list_dead(self, pids: list[int]) -> Iterator[tuple[int, int]]:
        dead, self.dead = self.dead, {}
        yield from dead.items()

    def say(self, process: Process, *messages: Message) -> None:
        self.ends[process.pid].sendall(b"".join(map(encode, messages)))

    def heard(self, process: Process) -> list[Message]:
        end = self.ends[process.pid]
        end.setblocking(False)
        with suppress(BlockingIOError):
            return Lines().feed(end.recv(65536))
        return []


class Notes(Listener):
    def __init__(self) -> None:
        self.served: list[int] = []
        self.refusals: list[tuple[int, Failed]] = []

    def serving(self, generation: Generation) -> None:
        self.served.append(generation.number)

    def refused(self, generation: Generation, failed: Failed) -> None:
        self.refusals.append((generation.number, failed))


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System()
    monkeypatch.setattr(staff, "fork_process", made.fork)
    monkeypatch.setattr(staff, "list_dead", made.list_dead)
    monkeypatch.setattr(staff.os, "kill", made.kill)
    yield made
    for end in made.ends.values():
        end.close()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def supervisor(system: System, notes: Notes) -> Iterator[Supervisor]:
    made = Supervisor(lambda birth: lambda upward: 0, lambda dead: None, workers=2, listener=notes)
    with made.turns:
        made.turns.after(3600, lambda: None)  # a turn that waits for ever would hide what did not happen
        yield made
    for process in made.processes.values():
        process.line.close()


def become_ready(system: System, *members: Process) -> None:
    for process in members:
        ready = Ready(f"w{process.pid}", "redis://x", "shop", "/", ("billing",), ("charge",))
        system.say(process, ready)


def serve(supervisor: Supervisor, system: System, generation: Generation) -> list[Process]:
    members = list(generation.members.values())
    become_ready(system, *members)
    while supervisor.current is not generation:
        supervisor.turns.turn()
    return members


def die(supervisor: Supervisor, system: System, process: Process, status: int = 9) -> None:
    """`status` is what `waitpid` says."""
    system.ends[process.pid].close()
    system.dead[process.pid] = status
    supervisor._staff.reap()


def test_a_generation_serves_once_all_of_it_reads_and_the_one_before_drains(
    supervisor: Supervisor, system: System, notes: Notes
):
    first = serve(supervisor, system, supervisor.reload())
    second = supervisor.reload()
    become_ready(system, second.members[0])
    supervisor.turns.turn()
    assert (notes.served, system.heard(first[0])) == ([1], [])
    become_ready(system, second.members[1])
    while notes.served != [1, 2]:
        supervisor.turns.turn()
    assert [system.heard(process) for process in first] == [[Stop()], [Stop()]]
    assert all(process.state is State.DRAINING for process in first)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_generation_of_which_a_process_cannot_be_started_is_refused_and_the_old_one_serves_on(
    supervisor: Supervisor, system: System, notes: Notes, failing: int
):
    first = serve(supervisor, system, supervisor.reload())
    system.refuse_forks = {2 + failing}
    supervisor.reload()
    assert [number for number, _ in notes.refusals] == [2]
    assert supervisor.coming is None
    assert supervisor.current is not None
    assert list(supervisor.current.members.values()) == first
    assert all(process.state is State.SERVING for process in first)
    assert health.find_unready(supervisor) == []
    assert len(supervisor.processes) == 1 + failing  # the one that could start is told to end
    assert [number for _, number in system.killed] == [signal.SIGTERM] * (failing - 1)


def test_an_empty_generation_never_serves():
    assert not Generation(2, seats=1).serves


def test_a_first_generation_that_cannot_be_forked_ends_it_all(supervisor: Supervisor, system: System):
    system.refuse_forks = {1}
    supervisor.reload()
    assert supervisor.result.failed is not None
    assert supervisor.result.failed.exit_code == 70


def test_a_seat_whose_process_died_is_empty_and_probes_say_so(
    supervisor: Supervisor, system: System, notes: Notes
):
    first, second = serve(supervisor, system, supervisor.reload())
    die(supervisor, system, first)
    assert first.board.memory.closed
    with listen("127.0.0.1", 0) as listening:
        probes = Probes(supervisor, listening, "1")
        assert probes.answer("GET", "/livez")[0] == 200
        status, _, body = probes.answer("GET", "/readyz")
        assert probes.answer("GET", "/metrics")[0] == 200
    assert status == 503
    assert "1 of 2 workers serve" in body
    while len(supervisor.processes) < 2:
        supervisor.turns.turn()  # the pause before its seat is taken again
    assert supervisor.current is not None
    assert supervisor.current.members[0] is not first
    become_ready(system, supervisor.current.members[0])
    while health.find_unready(supervisor):
        supervisor.turns.turn()
    assert second.state is State.SERVING


def test_a_death_while_it_drains_empties_no_seat_of_those_that_serve(supervisor: Supervisor, system: System):
    first = serve(supervisor, system, supervisor.reload())
    serve(supervisor, system, supervisor.reload())
    for process in first:
        die(supervisor, system, process)
    assert health.find_unready(supervisor) == []


def test_what_a_process_said_last_is_heard_however_much_it_had_said_before(
    supervisor: Supervisor, system: System, notes: Notes
):
    serve(supervisor, system, supervisor.reload())
    coming = supervisor.reload()
    files = {f"/shop/a/folder/with/a/long/name/{number:05}.py": "0" * 32 for number in range(1500)}
    failed = describe_failure(BrokerUnavailableError("nobody answers"))
    system.ends[coming.members[0].pid].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
    system.say(coming.members[0], Loaded(files), failed)
    die(supervisor, system, coming.members[0], 5 << 8)
    assert notes.refusals == [(2, failed)]


def test_a_start_that_takes_too_long_is_refused_to_all_who_listen(
    supervisor: Supervisor, system: System, notes: Notes, monkeypatch: pytest.MonkeyPatch
):
    serve(supervisor, system, supervisor.reload())
    monkeypatch.setattr(module, "START_SECONDS", 0.01)
    coming = supervisor.reload()
    while not notes.refusals:
        supervisor.turns.turn()
    [(number, failed)] = notes.refusals
    assert (number, failed.kind) == (2, "TimeoutError")
    assert sorted(system.killed) == sorted((one.pid, signal.SIGTERM) for one in coming.members.values())


def test_a_start_that_came_to_its_end_is_not_given_up_later(
    supervisor: Supervisor, system: System, notes: Notes, monkeypatch: pytest.MonkeyPatch
):
    serve(supervisor, system, supervisor.reload())
    monkeypatch.setattr(module, "START_SECONDS", 0.01)
    serve(supervisor, system, supervisor.reload())
    over: list[bool] = []
    supervisor.turns.after(0.05, lambda: over.append(True))
    while not over:
        supervisor.turns.turn()
    assert (notes.served, notes.refusals) == ([1, 2], [])


# -- who is to blame -------------------------------------------------------------------------------------

BY_ORDER = Ended(clean=False, counts={})


@pytest.mark.parametrize(
    ("known", "blamed"),
    [
        ({}, True),
        ({"killed": True}, False),
        ({"ended": BY_ORDER}, False),
        ({"failed": describe_failure(BrokerUnavailableError("nobody answers"))}, False),
        ({"failed": describe_failure(MemoryError())}, True),
    ],
    ids=["died", "killed by us", "ended by order", "lost its server", "had no memory"],
)
def test_only_a_death_while_it_ran_alone_is_held_against_a_message(
    system: System, known: dict[str, Any], blamed: bool
):
    pid, line = system.fork(None, lambda: None)
    dead = Process(pid, line, Role.SOLO, 1, 0, Board())
    dead.ready = Ready("w", "redis://x", "shop", "/", ("billing",), ("charge",))
    for name, value in known.items():
        setattr(dead, name, value)
    burial: Any = make_coroner(dead)
    line.close()
    assert isinstance(burial.__self__, coroner.Burial)
    assert burial.__self__.to_blame is blamed
