"""What workers of fault tests run: each start and end goes to the history of its process.

The data says what to do: `{"key": "p-17", "do": "done", "ms": 3}`; with `"hold": true` a first run
does not go on before the gate is opened.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Final

from leanmq_topology import Discard, Message, Reject
from tests.support.history import History, Outcome

HISTORY_VARIABLE: Final = "FAULT_HISTORY"

_histories: dict[int, History] = {}


def history_folder() -> Path:
    return Path(os.environ[HISTORY_VARIABLE])


def gate(histories: Path) -> Path:
    """The file that lets held runs go on once it is there."""
    return histories / "gate"


def history() -> History:
    """Of this process; its name is what a nemesis calls the worker."""
    pid = os.getpid()
    if pid not in _histories:
        _histories[pid] = History(history_folder(), worker_name(os.getpgrp()))
    return _histories[pid]


def worker_name(group: int) -> str:
    return f"w{group}"


async def work(data: dict[str, Any], message: Message) -> None:
    """Do what the data says, `ms` later."""
    told, key, queue = history(), data["key"], message.queue
    told.start(key, queue, attempt=message.attempt, redelivered=message.redelivered)
    while data.get("hold") and message.attempt == 1 and not gate(history_folder()).exists():
        await asyncio.sleep(0.01)  # a file has no way to signal
    if data.get("ms"):
        await asyncio.sleep(data["ms"] / 1000)
    outcome = decide(data.get("do", "done"), message.attempt)
    told.end(key, queue, outcome, attempt=message.attempt)
    if data.get("do") == "die after" and message.attempt == 1:
        die()
    if outcome is Outcome.FAILED:
        raise RuntimeError("as told")
    if outcome is Outcome.DISCARDED:
        raise Discard
    if outcome is Outcome.REJECTED:
        raise Reject("as told")


def die() -> None:
    """With everything that was started along with this process: nobody is left who saw it die."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def decide(wish: str, attempt: int) -> Outcome:
    """What the run of a message ends as; `die` does not end at all."""
    if wish == "die always" or (wish == "die" and attempt == 1):
        die()
    if wish == "fail" or (wish == "fail once" and attempt == 1):
        return Outcome.FAILED
    return {"discard": Outcome.DISCARDED, "reject": Outcome.REJECTED}.get(wish, Outcome.DONE)
