"""Settles what a dead process held: what it never started is free at once, what it ran is under suspicion.

It is a process of its own that ends when it is done, so that the supervisor never waits for a server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from leanmq_topology.brokers.connect import BlockingLink, open_blocking
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.runner.marks import Started
from leanmq_topology.runner.supervisor.members import Process, Role
from leanmq_topology.runner.supervisor.process import Main, Upward
from leanmq_topology.runner.supervisor.wire import BUG_EXIT, Ready, Waiting
from leanmq_topology.upkeep.recovery import recover_own
from leanmq_topology.upkeep.steps import carry_out

logger = logging.getLogger("leanmq.runner")

PATIENCE_SECONDS = 8.0
PAUSE_SECONDS = 0.2


def make_coroner(dead: Process) -> Main | None:
    """For `Supervisor`."""
    ready = dead.ready
    if ready is None:
        return None
    started = dead.board.started(ready.queues)
    by_itself = dead.ended is None and (dead.failed is None or dead.failed.exit_code == BUG_EXIT)
    to_blame = dead.role is Role.SOLO and by_itself and not dead.killed
    burial = Burial(ready, started, overflowed=dead.board.overflowed, to_blame=to_blame)
    return burial.perform


class Burial(Struct, frozen=True):
    """What is known of a dead process."""

    ready: Ready
    started: Sequence[Started]
    overflowed: bool
    """It had started more than is known."""
    to_blame: bool
    """It ran one message at a time: the one it had started took it down."""

    def perform(self, upward: Upward) -> int:
        """Try until the server answers, for a while; after that leases bring everything back."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                suspected = self._settle_all()
            except BrokerUnavailableError as failure:
                if time.monotonic() > deadline:
                    self._warn(f"what worker {self.ready.worker} held waits for its leases: {failure}")
                    return 1
                time.sleep(PAUSE_SECONDS)
            else:
                if suspected:
                    upward.tell(Waiting(suspected))
                return 0

    def _settle_all(self) -> tuple[str, ...]:
        """Returns the queues with messages under suspicion."""
        ready, folder = self.ready, Path(self.ready.folder)
        with open_blocking(
            ready.url, namespace=ready.namespace, folder=folder, client_name="leanmq-coroner"
        ) as link:
            suspected = tuple(queue for queue in ready.queues if self._settle(link, queue))
            link.connection.execute(link.broker.leave(ready.worker, ready.queues))
        return suspected

    def _settle(self, link: BlockingLink, queue: str) -> bool:
        try:
            return self._settle_queue(link, queue)
        except BrokerUnavailableError:
            raise
        except LeanMQError as failure:
            self._warn(f"queue {queue}: what worker {self.ready.worker} held waits for its leases: {failure}")
            return False

    def _settle_queue(self, link: BlockingLink, queue: str) -> bool:
        broker, execute, consumer = link.broker, link.connection.execute, self.ready.worker
        started = [found.entry_id for found in self.started if found.queue == queue]
        if self.overflowed:
            started = self._find_all_held(link, queue)
        suspect, more = not self.to_blame, True
        running: list[Delivered | Undecodable] = []
        while more:
            back = execute(broker.release_held(queue, consumer, started=started, suspect=suspect))
            running, more = [*running, *back.started], back.more
        if self.to_blame and running:
            execute(broker.crash(queue, consumer, running))
        return bool(running)

    def _find_all_held(self, link: BlockingLink, queue: str) -> list[str]:
        held: list[str] = []
        course = recover_own(
            link.broker,
            queue,
            self.ready.worker,
            lambda: (),
            lambda some: held.extend(one.entry_id for one in some),
        )
        carry_out(course, link.connection)
        return held

    def _warn(self, text: str) -> None:
        logger.warning("%s", text, extra={"event": "burial_failed", "worker": self.ready.worker})
