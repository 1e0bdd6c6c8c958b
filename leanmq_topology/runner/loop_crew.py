"""Runs the messages of one queue through an `async def` handler, up to `concurrency` at a time, in the loop.

A crew is a few long-lived tasks, hired when they are first needed. One of them works through all that waits
for as long as the handler never really waits; when it does, the next member is woken to take the next
message. So a message costs neither a task nor a wake-up of its own unless its handler waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any

from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import Pipeline, Verdict
from leanmq_topology.runner.stepping import run_inline

TURN_SECONDS = 0.01
"""How long handlers may run in a row before other work of the loop gets its turn."""

Finish = Callable[[Incoming, Verdict], None]
Forget = Callable[[Incoming], None]


class LoopCrew:
    """`finish` hears of every message run or refused, `forget` of each whose lease was lost unrun."""

    def __init__(self, concurrency: int, finish: Finish, forget: Forget, client: Any = None) -> None:
        self._concurrency = concurrency
        self._finish, self._forget = finish, forget
        self._client = client
        self._waiting: deque[tuple[Incoming, Pipeline]] = deque()
        self._members: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[None]] = []
        self._running = 0
        self._turn_ends = 0.0
        self._aborting = False

    @property
    def unstarted(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return self._running

    def give(self, messages: Iterable[Incoming], pipeline: Pipeline) -> None:
        """Run these, in this order, as members get to them."""
        self._waiting.extend((message, pipeline) for message in messages)
        self._wake_one()

    def take_back(self) -> list[Incoming]:
        """What was given and not yet started; it will not be."""
        unstarted = [message for message, _ in self._waiting]
        self._waiting.clear()
        return unstarted

    async def abort(self, grace_seconds: float) -> None:
        """Cancel what runs and give it `grace_seconds` to end; each is finished as interrupted."""
        self._aborting = True
        for member in self._members:
            member.cancel()
        if self._members:
            await asyncio.wait(self._members, timeout=grace_seconds)

    def _wake_one(self) -> None:
        """Pass the baton: somebody has to look at what waits, unless all are busy."""
        if not self._waiting:
            return
        while self._resting:
            bell = self._resting.pop()
            if not bell.done():
                bell.set_result(None)
                return
        if len(self._members) < self._concurrency and not self._aborting:
            member = asyncio.create_task(self._work())
            self._members.add(member)
            member.add_done_callback(self._left)

    def _left(self, member: asyncio.Task[None]) -> None:
        self._members.discard(member)
        self._wake_one()

    async def _work(self) -> None:
        member = asyncio.current_task()
        while not self._aborting:
            if not self._waiting:
                await self._rest()
                continue
            now = time.monotonic()
            if now > self._turn_ends:
                await asyncio.sleep(0)
                self._turn_ends = time.monotonic() + TURN_SECONDS
                continue
            message, pipeline = self._waiting.popleft()
            if message.is_ours(now):
                await self._run(message, pipeline)
            else:
                self._forget(message)
            if member is not None and member.cancelling() and not self._aborting:
                await _shake_off_cancellation(member)

    async def _rest(self) -> None:
        bell = asyncio.get_running_loop().create_future()
        self._resting.append(bell)
        await bell

    async def _run(self, message: Incoming, pipeline: Pipeline) -> None:
        self._running += 1
        try:
            verdict = pipeline.admit(message)
            if verdict is None:
                verdict = await self._call(message, pipeline)
        finally:
            self._running -= 1
        self._finish(message, verdict)

    async def _call(self, message: Incoming, pipeline: Pipeline) -> Verdict:
        try:
            started = pipeline.invoke(message, self._client)
            result = await run_inline(started, copy_context(), self._wake_one)
        except asyncio.CancelledError as failure:
            return pipeline.interrupt(message) if self._aborting else pipeline.fail(message, failure)
        except BaseException as failure:
            return pipeline.fail(message, failure)
        return pipeline.succeed(message, result)


async def _shake_off_cancellation(member: asyncio.Task[None]) -> None:
    """A handler cancelled its task and ended before that took effect; the next one must not feel it."""
    while member.uncancel():
        pass
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return
