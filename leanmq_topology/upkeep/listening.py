"""Whether a connection that only listens still hears anything: the other end may be gone without a word."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from leanmq_topology.brokers.protocol import AsyncListener, Broadcaster
from leanmq_topology.errors import BrokerUnavailableError

CHECK_SECONDS: Final = 15.0
"""How often a line on which nothing is heard is tried."""


async def watch_line(listener: AsyncListener, broker: Broadcaster) -> None:
    """Raises `BrokerUnavailableError` when what listens does not listen any more."""
    while True:
        number = listener.connection_id
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await listener.lost()
        await listener.execute(broker.check_line())
        if listener.connection_id != number:
            raise BrokerUnavailableError("the connection was lost, and opened anew")
