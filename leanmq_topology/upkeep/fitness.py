"""Looks now and then whether the server is still fit for messages: its settings can change under a worker.

A server that would evict is refused at the start. One that begins to evict later cannot be refused, because
stopping would not save a message; it is said, once, and shown by everything that tells how a worker is.
"""

from __future__ import annotations

import logging
import random
import time
from typing import Protocol

from leanmq_topology.brokers.examination import Examination, Finding, Verdict
from leanmq_topology.brokers.protocol import Operation
from leanmq_topology.clock import system_clock
from leanmq_topology.upkeep.steps import Steps, ask

logger = logging.getLogger("leanmq.upkeep")

LOOK_SECONDS = 10.0
"""And a fifth; what went wrong is known within 30 s."""


class Examining(Protocol):
    def examine(self, now_ms: int) -> Operation[Examination]: ...


class Fitness:
    def __init__(self, broker: Examining) -> None:
        self._broker = broker
        self._look_at = time.monotonic() + _interval()
        self.problems: tuple[Finding, ...] = ()
        """What makes the server unfit, as of the last look."""

    def step(self) -> Steps[None]:
        """Look, if it is time."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _interval()
        examination = yield from ask(self._broker.examine(system_clock()))
        found = tuple(one for one in examination.check_entry() if one.verdict is Verdict.FAILED)
        for finding in found:
            if finding not in self.problems:
                mend = f" ({finding.mend})" if finding.mend else ""
                logger.error("the server is unfit: %s%s", finding.text, mend, extra={"event": "server_unfit"})
        if self.problems and not found:
            logger.warning("the server is fit again", extra={"event": "server_fit"})
        self.problems = found


def _interval() -> float:
    return LOOK_SECONDS * random.uniform(0.8, 1.2)
