"""All processes that a supervisor has: started, heard, told to end, made to end, and waited for."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable

from leanmq_topology.runner.marks import Board
from leanmq_topology.runner.supervisor.members import Birth, MakeWorker, Process, Role, State
from leanmq_topology.runner.supervisor.process import fork_process
from leanmq_topology.runner.supervisor.reaping import list_dead
from leanmq_topology.runner.supervisor.turns import Turns
from leanmq_topology.runner.supervisor.wire import Message, Stop

logger = logging.getLogger("leanmq.runner")

AFTER_DRAIN_SECONDS = 8.0
"""What a process may take beyond its drain: cancelled handlers, the last settlements, closing."""
END_SECONDS = 3.0
"""What a process may take to end once it has said that it is done; threads left behind keep it longer."""
GIVE_UP_SECONDS = 1.0
"""What a process that is starting may take to notice that it is not wanted any more; code that does not
listen to signals never does."""


class Staff:
    """`hear` is called with what a process says; `bury` with one that ended and its exit code, as
    `waitstatus_to_exitcode` has it, when all that it said was heard."""

    def __init__(
        self,
        turns: Turns,
        drain_seconds: float,
        hear: Callable[[Process, Message], None],
        bury: Callable[[Process, int], None],
    ) -> None:
        self.by_pid: dict[int, Process] = {}
        self._turns, self._drain_seconds = turns, drain_seconds
        self._hear, self._bury = hear, bury
        self._leave: list[Callable[[], None]] = [turns.close_in_child]

    def close_in_children(self, close: Callable[[], None]) -> None:
        """Call this in every forked process: it must not keep what is the parent's (sockets)."""
        self._leave.append(close)

    def start(
        self, role: Role, generation: int, seat: int, make: MakeWorker, *, again: bool = False
    ) -> Process | None:
        """None where the system has no room for another one, which is logged."""
        try:
            board = Board()
            pid, line = fork_process(make(Birth(role, generation, seat, board, again)), self._leave_parent)
        except OSError as failure:  # what memory the board had goes with it
            logger.error("no process can be started: %s", failure, extra={"event": "fork_failed"})
            return None
        process = Process(pid, line, role, generation, seat, board)
        self.by_pid[pid] = process
        self._turns.watch(line.socket, lambda: self._read(process))
        return process

    def _leave_parent(self) -> None:
        """In a child: nothing of the parent's may stay open, least of all the lines to others."""
        for close in self._leave:
            close()
        for process in self.by_pid.values():
            process.line.close()
            process.board.close()

    def _read(self, process: Process) -> None:
        messages = process.line.read()
        if messages is None:  # it ended, or is about to
            self._turns.forget(process.line.socket)
            self.reap()
            return
        for message in messages:
            self._hear(process, message)

    # -- ending -----------------------------------------------------------------------------------------

    def drain(self, process: Process) -> None:
        """Tell it to end when it is done; what has nothing to hand back ends at once. A coroner is let be."""
        if process.role is Role.CORONER:
            return
        if process.state is State.STARTING or process.role is Role.HELPER:
            self.kill(process)
            return
        process.line.tell(Stop())
        self.expect_drain(process)

    def expect_drain(self, process: Process) -> None:
        """It drains, told or by itself: it has as long as a drain may take."""
        process.state = State.DRAINING
        self._turns.after(self._drain_seconds + AFTER_DRAIN_SECONDS, lambda: self._hurry(process))

    def expect_end(self, process: Process) -> None:
        """It said that it is done."""
        process.state = State.DRAINING
        self._turns.after(END_SECONDS, lambda: self._hurry(process))

    def give_up(self, process: Process) -> None:
        """One that is not wanted any more, starting or not.

        It may read by now without our having heard: a signal it drains on, and ends at once on before.
        """
        if process.state is not State.STARTING:
            self.drain(process)
        elif self._is_there(process):
            process.killed = True
            os.kill(process.pid, signal.SIGTERM)
            self._turns.after(GIVE_UP_SECONDS, lambda: self._end_start(process))

    def _end_start(self, process: Process) -> None:
        if process.state is State.STARTING:
            self.kill(process)

    def _hurry(self, process: Process) -> None:
        """It had its time."""
        if not self._is_there(process):
            return
        process.overdue = process.ended is None
        why = (
            "did not drain in time and is killed"
            if process.overdue
            else "drained but did not end, and is killed: a thread was left behind in it"
        )
        logger.warning("process %d %s", process.pid, why, extra={"event": "killed"})
        self.kill(process)

    def kill(self, process: Process) -> None:
        """At once, if it is still there."""
        if self._is_there(process):  # not waited for yet, so the id is still its own
            process.killed = True
            os.kill(process.pid, signal.SIGKILL)

    def _is_there(self, process: Process) -> bool:
        return self.by_pid.get(process.pid) is process

    # -- ended ------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Wait for those that ended, if any did."""
        for pid, status in list_dead(list(self.by_pid)):
            if pid in self.by_pid:
                self._note_end(self.by_pid[pid], os.waitstatus_to_exitcode(status))

    def _note_end(self, process: Process, status: int) -> None:
        for message in process.line.read_rest():
            self._hear(process, message)
        del self.by_pid[process.pid]
        with contextlib.suppress(KeyError, ValueError):  # it closed its end before
            self._turns.forget(process.line.socket)
        process.line.close()
        self._bury(process, status)
        process.board.close()
