"""A client that waits to be killed: `python -m tests.support.doomed_caller TOPOLOGY URL LIFETIME_MS NUMBER`.

It asks once, and says `answered` when it was. What it leaves behind has to go by itself.
"""

from __future__ import annotations

import asyncio
import sys

from leanmq_topology import connect


async def ask(path: str, url: str, lifetime_ms: int, number: int) -> None:
    async with connect(path, url=url) as mq:
        mq._requester._lifetime_ms = lifetime_ms  # a minute is long for a test
        asking = asyncio.create_task(mq.request("ask", {"n": number}, timeout=60))
        print("asking", flush=True)
        await asking
        print("answered", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    where, server, lifetime, asked = sys.argv[1:]
    asyncio.run(ask(where, server, int(lifetime), int(asked)))
