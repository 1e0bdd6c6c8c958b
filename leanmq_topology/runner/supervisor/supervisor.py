"""Starts worker processes, replaces those that die, changes generations, and ends them all in good order."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

from msgspec import Struct, field

from leanmq_topology.errors import BrokerError
from leanmq_topology.runner.supervisor.listening import Listener, Listeners
from leanmq_topology.runner.supervisor.members import (
    LONGEST_PAUSE_SECONDS,
    Backoff,
    Generation,
    MakeWorker,
    Process,
    Role,
    State,
    describe_status,
)
from leanmq_topology.runner.supervisor.process import Main
from leanmq_topology.runner.supervisor.staff import Staff
from leanmq_topology.runner.supervisor.turns import Timer, Turns
from leanmq_topology.runner.supervisor.wire import (
    Draining,
    Ended,
    Facts,
    Failed,
    Loaded,
    Message,
    Note,
    Ready,
    Reloaded,
    Stop,
    Waiting,
)

logger = logging.getLogger("leanmq.runner")

DRAIN_SECONDS = 25.0
START_SECONDS = 30.0
"""How long a new generation may take until it serves; then it is given up, and the old one goes on."""
SAME_SIGNAL_SECONDS = 0.005
BURIAL_SECONDS = 10.0
LAST_BURIAL_SECONDS = 1.0
"""The same when everything is to end at once."""
PASSING = frozenset({"held", "running"})
"""What a worker tells of a handler that is over with the process."""


MakeCoroner = Callable[[Process], Main | None]
"""What a process does that settles what this dead one held; None if it held nothing."""


class Result(Struct):
    """How it all ended."""

    failed: Failed | None = None
    """The first generation never served."""
    signal: int | None = None
    """What told it to stop."""
    clean: bool = True
    """Everything that was read is settled or handed back."""
    workers: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    deaths: int = 0


class Supervisor:
    """`make` is called once for each generation: what its worker processes do.

    `patient`: a first generation that cannot start is told to the listener, as every later one is, and does
    not end everything; unless it is the server that cannot be used, which no edit mends.
    """

    def __init__(
        self,
        make: MakeWorker,
        bury: MakeCoroner,
        *,
        workers: int = 1,
        drain_seconds: float = DRAIN_SECONDS,
        listener: Listener | None = None,
        patient: bool = False,
    ) -> None:
        self.turns = Turns()
        self.result = Result()
        self._staff = Staff(self.turns, drain_seconds, self._take_in, self._note_death)
        self.processes = self._staff.by_pid
        """All that are there, by process id."""
        self.current: Generation | None = None
        """The one that serves."""
        self.coming: Generation | None = None
        """The one that starts."""
        self.reloaded: Reloaded | None = None
        """What came of the newest edit; None before there was one."""
        self.reloads: Counter[str] = Counter()
        """How many edits `served`, and how many were `refused`."""
        self.past: dict[str, Counter[str]] = {}
        """What processes that ended had done, by handler."""
        self.stopping = False
        self.restarts = 0
        self._make, self._bury = make, bury
        self._makers: dict[int, MakeWorker] = {}
        self._workers = workers
        self._listener = Listeners(*([listener] if listener else []))
        self._patient = patient
        self._numbers = 0
        self._backoffs = [Backoff() for _ in range(workers)]
        self._restarting: dict[int, Timer] = {}
        self._solo_pause_until = 0.0

    # -- for those around it ----------------------------------------------------------------------------

    def run(self) -> Result:
        """Serve until told to stop by a signal, or until the first generation cannot start."""
        with self.turns:
            self.turns.obey([signal.SIGCHLD], lambda number: self._staff.reap())
            self.turns.obey([signal.SIGTERM, signal.SIGINT], self.stop, once_seconds=SAME_SIGNAL_SECONDS)
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                self.turns.obey([signal.SIGHUP], self._hang_up)
            self.reload(self._make)
            while not self._over:
                self.turns.turn()
        return self.result

    def reload(self, make: MakeWorker | None = None) -> Generation:
        """Start another generation; once all of it serves, the one before drains.

        One that is still starting is given up for it. `make` says what its processes do, if not the same.
        """
        self.cancel_start()
        self._numbers += 1
        self._makers[self._numbers] = make or self._make
        generation = self.coming = Generation(self._numbers, self._workers)
        if self.current is not None:
            self._listener.reloading(generation)
        for seat in range(self._workers):
            if self.coming is generation:  # not refused meanwhile
                self._start(generation, seat)
        if generation.number > 1:
            self.turns.after(START_SECONDS, lambda: self._give_up_start(generation))
        return generation

    def _give_up_start(self, generation: Generation) -> None:
        if self.coming is generation:
            reason = f"it did not start within {START_SECONDS:g} s"
            self.refuse(generation, Failed("TimeoutError", reason, "do lasting work in the handlers"))

    def cancel_start(self) -> None:
        """Give up the generation that is starting. Those of its processes that already read drain."""
        coming, self.coming = self.coming, None
        for process in coming.members.values() if coming else ():
            self._staff.give_up(process)

    def note_reloaded(self, reloaded: Reloaded) -> None:
        """Keep it, and let the processes that serve say it."""
        self.reloaded = reloaded
        self.reloads["refused" if reloaded.refused else "served"] += 1
        for process in self.current.members.values() if self.current else ():
            process.line.tell(reloaded)

    def end_helper(self, process: Process) -> None:
        """End what `start_helper` started."""
        self._staff.kill(process)

    def start_helper(self, main: Main) -> Process | None:
        """A process for something else; what it says as a `Note` is handed to the listener."""
        return self._staff.start(Role.HELPER, 0, 0, lambda birth: main)

    def add_listener(self, listener: Listener) -> None:
        """Called before `run`."""
        self._listener.each.append(listener)

    def close_in_children(self, close: Callable[[], None]) -> None:
        """Call this in every forked process: it must not keep what is the parent's (sockets)."""
        self._staff.close_in_children(close)

    def stop(self, number: int | None = None) -> None:
        """The first call drains, the second ends everything at once."""
        if self.stopping:
            self._abort(number)
            return
        self.stopping, self.result.signal = True, number
        logger.info("stopping; once more ends at once", extra={"event": "stopping"})
        self._listener.stopping()
        for timer in self._restarting.values():
            timer.cancel()
        self.cancel_start()
        for process in list(self.processes.values()):
            if not process.killed:
                self._staff.drain(process)

    def _hang_up(self, number: int) -> None:
        """A service is to load anew; to who sits at a terminal it means that the terminal is gone."""
        if sys.stdin is not None and sys.stdin.isatty():
            self.stop(number)
        elif not self.stopping and self.current is not None:
            logger.info("loading anew", extra={"event": "reloading"})
            self.reload(self._makers[self.current.number])

    # -- starting ---------------------------------------------------------------------------------------

    def _start(self, generation: Generation, seat: int, *, again: bool = False) -> None:
        make = self._makers[generation.number]
        process = self._staff.start(Role.WORKER, generation.number, seat, make, again=again)
        if process is not None:
            generation.members[seat] = process
        elif generation is self.coming:
            self.refuse(generation, Failed("ProcessError", "no process can be started", exit_code=70))
        else:
            self._restart(seat, 0.0, 0)

    def _restart(self, seat: int, lived_seconds: float, settled: int) -> None:
        pause = self._backoffs[seat].pause_after(lived_seconds, settled)
        self._restarting[seat] = self.turns.after(pause, lambda: self._take_seat(seat))

    def _take_seat(self, seat: int) -> None:
        del self._restarting[seat]
        if self.current is not None and not self.stopping:
            self.restarts += 1
            self._start(self.current, seat, again=True)

    # -- what processes say -----------------------------------------------------------------------------

    def _take_in(self, process: Process, message: Message) -> None:
        match message:
            case Ready():
                process.ready = message
                self._note_ready(process)
            case Facts():
                process.facts = message
            case Failed():
                process.failed = message
            case Loaded():
                self._listener.loaded(process, message)
            case Note():
                self._listener.noted(process, message)
            case Waiting():
                self._start_solo()
            case Draining():
                self._note_draining(process)
            case Ended():
                process.ended = message
                self._staff.expect_end(process)
            case Stop():
                pass

    def _note_ready(self, process: Process) -> None:
        if process.state is not State.STARTING:
            return
        process.state = State.SERVING
        if process.role is Role.WORKER:
            self.result.workers.append(process.name)
        if self.stopping or self._is_given_up(process):
            self._staff.drain(process)
        elif self.coming is not None and self.coming.serves:
            self._promote(self.coming)

    def _is_given_up(self, process: Process) -> bool:
        wanted = {generation.number for generation in (self.current, self.coming) if generation}
        return process.generation not in wanted

    def _promote(self, generation: Generation) -> None:
        before, self.current, self.coming = self.current, generation, None
        for timer in self._restarting.values():
            timer.cancel()
        self._restarting.clear()
        for process in list(self.processes.values()):
            if before is not None and process.generation <= before.number and process.role is not Role.HELPER:
                self._staff.drain(process)
        self._listener.serving(generation)

    def _note_draining(self, process: Process) -> None:
        """No crash, so no pause before another one takes its seat."""
        self._staff.expect_drain(process)
        if self.current is not None and self._is_serving(process) and not self.stopping:
            self.restarts += 1
            self._start(self.current, process.seat, again=True)

    def _is_serving(self, process: Process) -> bool:
        return self.current is not None and self.current.members.get(process.seat) is process

    # -- solo runs --------------------------------------------------------------------------------------

    def _start_solo(self) -> None:
        """One such process is enough; it ends by itself when nothing is left for it.

        Workers ask for it again each second, as long as there is something.
        """
        if self.stopping or self.current is None or time.monotonic() < self._solo_pause_until:
            return
        if not any(process.role is Role.SOLO for process in self.processes.values()):
            self._staff.start(Role.SOLO, self.current.number, 0, self._makers[self.current.number])

    # -- ending -----------------------------------------------------------------------------------------

    def _abort(self, number: int | None) -> None:
        logger.warning("ended before the drain was over", extra={"event": "aborted"})
        self.result.signal, self.result.clean = number or self.result.signal, False
        for process in list(self.processes.values()):
            if process.role is not Role.CORONER:
                self._staff.kill(process)
        self.turns.after(LAST_BURIAL_SECONDS, self._give_up_burials)

    def _give_up_burials(self) -> None:
        for process in list(self.processes.values()):
            self._staff.kill(process)

    # -- deaths -----------------------------------------------------------------------------------------

    def _note_death(self, process: Process, status: int) -> None:
        if process.overdue:
            self.result.clean = False
        if process.role in {Role.WORKER, Role.SOLO}:
            self._keep_counts(process)
            self._settle_death(process, status)
        elif process.role is Role.HELPER:
            self._listener.noted(process, Note("ended", (describe_status(status),)))
        if process.role is Role.SOLO and process.ready is None:
            self._solo_pause_until = time.monotonic() + LONGEST_PAUSE_SECONDS

    def _keep_counts(self, process: Process) -> None:
        for handler, counts in process.facts.handlers.items() if process.facts else ():
            lasting = {name: count for name, count in counts.items() if name not in PASSING}
            self.past.setdefault(handler, Counter()).update(lasting)

    def _settle_death(self, process: Process, status: int) -> None:
        if process.ended is not None:
            self.result.counts.update(process.ended.counts)
            self.result.clean &= process.ended.clean
        if process.ready is not None and (process.ended is None or not process.ended.clean):
            self._send_coroner(process)
        if process.ready is not None and process.ended is None and not process.killed:
            self._say_death(process, status)
        generation = self.coming if self.coming and process.generation == self.coming.number else self.current
        if generation is None or not generation.leave(process):
            return
        if generation is self.coming and not process.killed:
            reason = f"a worker process ended while it started: {describe_status(status)}"
            self.refuse(generation, process.failed or Failed("ProcessError", reason, exit_code=70))
        elif generation is self.current and not self.stopping:
            self._note_empty_seat(process, status)

    def _note_empty_seat(self, process: Process, status: int) -> None:
        if process.failed is not None and process.ready is None:
            logger.error(
                "a worker cannot be started again: %s; trying on", process.failed.message,
                extra={"event": "restart_failed"},
            )  # fmt: skip
        lived = time.monotonic() - process.started_at
        settled = process.board.settled if process.ended is None else 1
        self._restart(process.seat, lived, settled)

    def _say_death(self, process: Process, status: int) -> None:
        self.result.deaths += 1
        started = process.board.started(process.ready.queues) if process.ready else []
        logger.error(
            "worker %s (process %d) died: %s, with %d messages started",
            process.name,
            process.pid,
            describe_status(status),
            len(started),
            extra={"event": "worker_died", "worker": process.name, "pid": process.pid},
        )

    def _send_coroner(self, process: Process) -> None:
        main = self._bury(process)
        if main is None:
            return
        coroner = self._staff.start(Role.CORONER, process.generation, process.seat, lambda birth: main)
        if coroner is not None:
            # leases bring back what it does not get to
            self.turns.after(BURIAL_SECONDS, lambda: self._staff.kill(coroner))

    def refuse(self, generation: Generation, failed: Failed) -> None:
        """It cannot start; what served before goes on. Without any that is the end, unless we are patient."""
        self.cancel_start()
        if self.current is None and not (self._patient and failed.exit_code != BrokerError.exit_code):
            self.result.failed, self.stopping = failed, True
            for process in list(self.processes.values()):
                if process.role is Role.HELPER:
                    self._staff.kill(process)
        else:
            self._listener.refused(generation, failed)

    @property
    def _over(self) -> bool:
        return self.stopping and not self.processes
