"""What a worker process does: load the user's code, serve, report, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from leanmq_topology.brokers.connect import AsyncLink, open_async
from leanmq_topology.brokers.protocol import Part
from leanmq_topology.runner import forks
from leanmq_topology.runner.handlers import LoadedHandler
from leanmq_topology.runner.marks import Marks
from leanmq_topology.runner.supervisor import starvation
from leanmq_topology.runner.supervisor.members import Birth, Role
from leanmq_topology.runner.supervisor.process import Main, Upward
from leanmq_topology.runner.supervisor.staff import AFTER_DRAIN_SECONDS
from leanmq_topology.runner.supervisor.wire import (
    BUG_EXIT,
    Draining,
    Ended,
    Facts,
    Message,
    Ready,
    Reloaded,
    Waiting,
    describe_failure,
)
from leanmq_topology.runner.worker import Worker
from leanmq_topology.topology.model import Topology

logger = logging.getLogger("leanmq.runner")

REPORT_SECONDS = 1.0
SOLO_IDLE_SECONDS = 3.0
"""How long a process for suspects waits for another one."""
CLIENT_NAME = "leanmq-run"

Handlers = Mapping[str, LoadedHandler]
Tell = Callable[[Message], None]
"""Says something to the supervisor."""
Announce = Callable[[Birth, Topology, Handlers, AsyncLink, Worker], None]


class Orders(Struct, frozen=True):
    """What a worker process is to do. Everything here is called in the process itself."""

    load: Callable[[Tell], tuple[Topology, Handlers]]
    """Reads the topology and imports the user's code. Raises what `leanmq run` would report."""
    find_url: Callable[[Topology], str]
    """The server to connect to."""
    announce: Announce
    """Says what is being run, before the first handler starts."""
    load_first: Callable[[Tell], tuple[Topology, Handlers]] | None = None
    """The same for the processes that are started first: what was just read need not be read again."""
    prepare: Callable[[AsyncLink, Topology], None] | None = None
    """Called in a thread before anything is read; applies the topology, where that is asked for."""
    drain_seconds: float = 25.0


def make_worker(orders: Orders) -> Callable[[Birth], Main]:
    """For `Supervisor`."""

    def make(birth: Birth) -> Main:
        return lambda upward: live(orders, birth, upward)

    return make


def live(orders: Orders, birth: Birth, upward: Upward) -> int:
    """From the first import to the exit code."""
    try:
        is_first = birth.generation == 1 and birth.role is Role.WORKER and not birth.again
        load = orders.load_first if is_first and orders.load_first is not None else orders.load
        topology, handlers = load(upward.tell)
        ended = asyncio.run(_serve(orders, birth, upward, topology, handlers))
    except BaseException as failure:
        if forks.copied:
            forks.end_copy()
        failed = describe_failure(failure)
        if failed.exit_code == BUG_EXIT:
            logger.exception("a worker ended by a mistake in leanmq", extra={"event": "bug"})
        upward.tell(failed)
        return failed.exit_code
    upward.tell(ended)
    return 0 if ended.clean else 1


async def _serve(
    orders: Orders, birth: Birth, upward: Upward, topology: Topology, handlers: Handlers
) -> Ended:
    namespace, url = topology.broker.namespace, orders.find_url(topology)
    async with await open_async(
        url, namespace=namespace, folder=topology.folder, client_name=CLIENT_NAME
    ) as link:
        if orders.prepare is not None and birth.role is Role.WORKER and not birth.again:
            await asyncio.to_thread(orders.prepare, link, topology)
        worker = _build_worker(orders, birth, topology, handlers, link)
        _obey(upward, worker, orders.drain_seconds)
        upward.on_reloaded(lambda reloaded: worker.report.say(describe_reload(reloaded)))
        worker.on_taint = lambda reason: upward.tell(Draining(reason=reason))

        def ready() -> None:
            upward.tell(_describe_ready(url, topology, worker, handlers))
            orders.announce(birth, topology, handlers, link, worker)

        if birth.role is Role.WORKER:
            worker.on_suspected = lambda queues: _mention(upward, Waiting(tuple(queues)))
        beside = [asyncio.create_task(Reporter(worker, birth, upward).run(), name="reporter")]
        if birth.role is Role.SOLO:
            idle = IdleEnd(worker)
            worker.on_suspected = idle.note_suspects
            beside.append(asyncio.create_task(idle.run(), name="idle"))
        for task in beside:
            starvation.watch(task)
        try:
            ended = await worker.run(ready)
        finally:
            for task in beside:
                task.cancel()
        upward.tell(Facts(worker.report.describe()))
    return Ended(ended.clean, worker.report.counters.as_dict(), worker.name)


def _build_worker(
    orders: Orders, birth: Birth, topology: Topology, handlers: Handlers, link: AsyncLink
) -> Worker:
    queues = [handler.declared.queue for handler in handlers.values()]
    return Worker(
        topology,
        handlers,
        link,
        drain_seconds=orders.drain_seconds,
        marker=Marks(birth.board, queues),
        generation=birth.generation,
        part=Part.SUSPECT if birth.role is Role.SOLO else Part.FRESH,
    )


def _describe_ready(url: str, topology: Topology, worker: Worker, handlers: Handlers) -> Ready:
    return Ready(
        worker=worker.name,
        url=url,
        namespace=topology.broker.namespace,
        folder=str(topology.folder),
        queues=tuple(handler.declared.queue for handler in handlers.values()),
        handlers=tuple(handlers),
    )


def _obey(upward: Upward, worker: Worker, drain_seconds: float) -> None:
    """Drain when told to, by the supervisor, by its end, or by a signal to this very process."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    starvation.end_where_memory_ends(loop)
    forks.guard(loop, upward.leave)

    def stop(orphaned: bool) -> None:
        loop.call_soon_threadsafe(worker.stop)
        if orphaned:
            _end_in_any_case(drain_seconds + AFTER_DRAIN_SECONDS)

    upward.on_stop(stop)


def _end_in_any_case(seconds: float) -> None:
    """Nobody is left who would kill this process if a handler never ends."""
    logger.error("the supervisor is gone; draining", extra={"event": "orphaned"})

    def end() -> None:
        time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=end, name="leanmq-end", daemon=True).start()


def describe_reload(reloaded: Reloaded) -> dict[str, str]:
    """As facts of a heartbeat."""
    return {"reload_generation": str(reloaded.generation), "reload_refused": reloaded.refused}


class IdleEnd:
    """Ends a process for suspects when none have come for a while: one is started when it is needed."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._needed_at = time.monotonic()

    def note_suspects(self, queues: Sequence[str]) -> None:
        self._needed_at = time.monotonic()

    async def run(self) -> None:
        while time.monotonic() - self._needed_at < SOLO_IDLE_SECONDS:
            await asyncio.sleep(SOLO_IDLE_SECONDS / 10)
            if self._worker.busy:
                self._needed_at = time.monotonic()
        self._worker.stop()


def _mention(upward: Upward, waiting: Waiting) -> None:
    upward.mention(waiting)


class Reporter:
    """Tells the supervisor that the loop turns, and what the worker does when that changed."""

    def __init__(self, worker: Worker, birth: Birth, upward: Upward) -> None:
        self._worker, self._birth, self._upward = worker, birth, upward
        self._told: Facts | None = None
        self._described: tuple[tuple[int, int, int], dict[str, dict[str, int]]] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._birth.board.beat()
            pause = self._worker.pulse.pause(loop.time(), REPORT_SECONDS)
            due = loop.time() + pause
            await asyncio.sleep(pause)
            self._report(max(loop.time() - due, 0.0))

    def _report(self, lag_seconds: float) -> None:
        facts = Facts(self._describe(), round(lag_seconds, 2), tuple(self._worker.report.problems()))
        if facts != self._told and self._upward.mention(facts):
            self._told = facts

    def _describe(self) -> dict[str, dict[str, int]]:
        """The same as before while nothing happens: a second is short, and handlers may be many."""
        activity = self._worker.report.activity
        if self._described is None or self._described[0] != activity:
            self._described = (activity, self._worker.report.describe())
        return self._described[1]
