"""Runs the messages of one queue through a `def` handler, in up to `concurrency` worker threads.

Threads take message after message for as long as any waits, and tell the loop of what is done in batches:
under load the hop between loop and thread is shared by many messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any

from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.loop_crew import Finish, Forget
from leanmq_topology.runner.pipeline import Pipeline, Verdict

OpenClient = Callable[[], contextlib.AbstractContextManager[Any]]
"""Makes a blocking client; each thread gets one of its own, when its handler asks for one."""


class ThreadCrew:
    """`finish` and `forget` are called in the loop's thread, as with `LoopCrew`."""

    def __init__(
        self,
        name: str,
        concurrency: int,
        finish: Finish,
        forget: Forget,
        open_client: OpenClient | None = None,
    ) -> None:
        self._name, self._concurrency = name, concurrency
        self._finish, self._forget = finish, forget
        self._open_client = open_client
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[tuple[Incoming, Pipeline] | None] = SimpleQueue()
        self._done: deque[tuple[Incoming, Verdict | None]] = deque()
        self._announced = False
        self._open: set[Incoming] = set()
        self._threads: list[threading.Thread] = []
        self._pipeline: Pipeline | None = None

    @property
    def unstarted(self) -> int:
        return self._waiting.qsize()

    @property
    def running(self) -> int:
        return max(len(self._open) - self._waiting.qsize(), 0)

    def give(self, messages: Iterable[Incoming], pipeline: Pipeline) -> None:
        """Run these, in this order, as threads get to them."""
        self._pipeline = pipeline
        for message in messages:
            self._open.add(message)
            self._waiting.put((message, pipeline))
        while len(self._threads) < min(self._concurrency, len(self._open)):
            self._hire()

    def take_back(self) -> list[Incoming]:
        """What was given and not yet started; it will not be."""
        unstarted = []
        with contextlib.suppress(Empty):
            while True:
                given = self._waiting.get_nowait()
                if given is not None:
                    unstarted.append(given[0])
        self._open.difference_update(unstarted)
        return unstarted

    async def abort(self, grace_seconds: float) -> None:
        """A thread cannot be ended: what still runs is finished as interrupted, its result ignored."""
        for message in list(self._open):
            if self._pipeline is not None:
                self._close(message, self._pipeline.interrupt(message))
        self.dismiss()

    def dismiss(self) -> None:
        """Let the threads end once they are idle; nothing may be given any more."""
        for _ in self._threads:
            self._waiting.put(None)

    def _hire(self) -> None:
        # Daemons: a handler that never ends must not keep the process alive after its drain.
        name = f"leanmq-{self._name}-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, args=(copy_context(),), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, context: Context) -> None:
        with contextlib.ExitStack() as resources:
            client = None
            while (given := self._waiting.get()) is not None:
                message, pipeline = given
                if not message.is_ours(time.monotonic()):
                    self._announce(message, None)
                    continue
                verdict = pipeline.admit(message)
                if verdict is None:
                    try:
                        if client is None and self._open_client is not None:
                            client = resources.enter_context(self._open_client())
                        result = _refuse_coroutine(context.copy().run(pipeline.invoke, message, client))
                    except BaseException as failure:
                        verdict = pipeline.fail(message, failure)
                    else:
                        verdict = pipeline.succeed(message, result)
                self._announce(message, verdict)

    def _announce(self, message: Incoming, verdict: Verdict | None) -> None:
        """Called in a thread. The loop is told once for all that is done by the time it looks."""
        self._done.append((message, verdict))
        if not self._announced:
            self._announced = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the drain is over
                self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._announced = False
        while self._done:
            message, verdict = self._done.popleft()
            self._close(message, verdict)

    def _close(self, message: Incoming, verdict: Verdict | None) -> None:
        if message not in self._open:
            return  # aborted meanwhile: too late
        self._open.discard(message)
        if verdict is None:
            self._forget(message)
        else:
            self._finish(message, verdict)


def _refuse_coroutine(result: Any) -> Any:
    """A `def` that returns a coroutine has not done its work yet, and nobody would."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("the handler is a `def` that returned a coroutine: make it `async def`")
    return result
