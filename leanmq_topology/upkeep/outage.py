"""The server went away: say so once, wait longer and longer, say once that it is back."""

from __future__ import annotations

import logging
import random

from leanmq_topology.errors import BrokerError

logger = logging.getLogger("leanmq.upkeep")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


class Outage:
    """Shared by all that talks to one server, so that one failure is one line, however many notice it."""

    def __init__(self) -> None:
        self.under_way = False

    def begin(self, failure: BrokerError) -> None:
        if not self.under_way:
            self.under_way = True
            hint = f" ({failure.hint})" if failure.hint else ""
            logger.warning("%s; trying again%s", failure.message, hint, extra={"event": "server_lost"})

    def end(self) -> None:
        if self.under_way:
            self.under_way = False
            logger.warning("the server is back", extra={"event": "server_back"})


class Pauses:
    """How long to wait before the next try: doubling, capped, spread so that workers do not return as one."""

    def __init__(self, first: float = FIRST_PAUSE_SECONDS, longest: float = LONGEST_PAUSE_SECONDS) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    def seconds(self) -> float:
        """The next pause; at least half of what the doubling says."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause * (0.5 + random.random() / 2)
