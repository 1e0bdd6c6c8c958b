"""A process whose own work finds no memory cannot go on: it ends at once, and another one takes its place.

That is not a handler's `MemoryError`, which is a failure like any other. But an event loop that cannot read
what woke it is woken again at once, for ever; a connection that cannot read is lost as often as it is made;
and a thread that finds no memory is gone, the one that renews leases too. Each would hold messages and run
none. What the process had in hand goes the way of all that a worker leaves when it dies.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from leanmq_topology.runner.supervisor.wire import NO_MEMORY_EXIT

OUR_THREADS = "leanmq-"
"""How the names of all threads begin that a worker needs; what a handler raises in one is caught there."""


def end_where_memory_ends(loop: asyncio.AbstractEventLoop) -> None:
    """From now on a callback of `loop`, or a thread of ours, that finds no memory ends this process."""
    told = threading.excepthook

    def note_thread(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is not None and failed.thread.name.startswith(OUR_THREADS):
            _end_if_starved(failed.exc_value)
        told(failed)

    threading.excepthook = note_thread
    loop.set_exception_handler(_note_callback)


def watch(task: asyncio.Task[None]) -> None:
    """The same for a task that nobody waits for."""
    task.add_done_callback(lambda done: _end_if_starved(None if done.cancelled() else done.exception()))


def _note_callback(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A callback, or a connection's read; a task of the user's that nobody waited for is none of our work.
    if "handle" in context or "transport" in context:
        _end_if_starved(context.get("exception"))
    loop.default_exception_handler(context)


def _end_if_starved(failure: BaseException | None) -> None:
    """Without a word, for that would take memory: the exit code tells the supervisor."""
    if isinstance(failure, MemoryError):
        os._exit(NO_MEMORY_EXIT)
