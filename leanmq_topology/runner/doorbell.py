"""Hears of what a worker has to know sooner than it would look for it.

With nothing to do a worker looks around every five seconds only. What is delayed for less than that, and what
somebody pauses, applies or hands back, is told to it on a connection of its own; while that is down, or where
listening is not allowed, it looks every tick instead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from leanmq_topology.brokers.protocol import LOOK_CALL, AsyncListener, Broadcaster, Heard
from leanmq_topology.errors import BrokerError
from leanmq_topology.upkeep.listening import watch_line
from leanmq_topology.upkeep.outage import Pauses


class Doorbell:
    """`open_listener` makes a connection that calls what it is given with all that it hears."""

    def __init__(
        self, broker: Broadcaster, open_listener: Callable[[Callable[[Heard], None]], AsyncListener]
    ) -> None:
        self._broker = broker
        self._listener = open_listener(self._hear)
        self.rung: Callable[[int], None] = lambda due_ms: None
        """Called with the server's time at which something is due, in ms; 0: nothing is heard any more."""
        self.called: Callable[[], None] = lambda: None
        """Called when there is something to look at."""
        self.works = False
        """Whatever is put in from now on is heard of, if it is due within five seconds."""

    async def run(self) -> None:
        """Listen until cancelled. A failure is no news: it only means looking more often."""
        pauses = Pauses()
        try:
            while True:
                with contextlib.suppress(BrokerError):
                    await self._listener.execute(self._broker.listen_for_upkeep())
                    self.works = True
                    pauses.reset()
                    await watch_line(self._listener, self._broker)
                if self.works:
                    self.works = False
                    self.rung(0)
                await asyncio.sleep(pauses.seconds())
        finally:
            await self._listener.close()

    def _hear(self, heard: Heard) -> None:
        if heard.payload == LOOK_CALL:
            self.called()
            return
        with contextlib.suppress(ValueError):  # somebody else speaks on our channel
            self.rung(int(heard.payload))
