"""A message that takes its process down ends dead as `crashed`, and no other message with it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from leanmq_topology.brokers.connect import open_blocking
from tests.faults.catalogue import Figures
from tests.support.processes import wait_until
from tests.support.project import Project, Run, write_orders
from tests.support.servers import Server

QUEUE = "max_deliveries: 10, max_crashes: 3, visibility_timeout: 30s"

HANDLERS = r"""
import asyncio, ctypes, os, resource, signal, time
from pathlib import Path

def note(word, data, message):
    with Path("runs").open("ab", buffering=0) as told:
        told.write(f"{word} {data['n']} {message.attempt} {os.getpid()}\n".encode())

def poison(do):
    match do:
        case "exit":
            os._exit(1)
        case "segfault":
            ctypes.string_at(0)
        case "memory":
            resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
            os.abort() if exhausted() else None
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)

def exhausted():
    held = []
    try:
        while True:
            held.append(bytearray(2**26))
    except MemoryError:
        return True

def in_thread(data, message):
    note("start", data, message)
    time.sleep(0.01)
    poison(data.get("do"))
    note("done", data, message)

async def in_loop(data, message):
    note("start", data, message)
    await asyncio.sleep(0.01)
    poison(data.get("do"))
    note("done", data, message)
"""


def wait_until_settled(server: Server, namespace: str, count: int) -> tuple[int, int]:
    """How many were acknowledged and how many are dead, once that is all."""
    found = (0, 0)
    with open_blocking(server.url, namespace=namespace, folder=Path()) as link:

        def settled() -> bool:
            nonlocal found
            [state] = link.connection.execute(link.broker.inspect_queues(["orders"]))
            found = ((state.counters or {}).get("acked", 0), state.dead)
            return sum(found) == count

        wait_until(settled, f"{count} settled, not {found}", seconds=90)
    return found


def runs_of(project: Project, word: str) -> list[int]:
    lines = (project.folder / "runs").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith(word)]


@pytest.mark.parametrize(
    ("function", "concurrency", "prefetch", "do"),
    [
        ("in_thread", 1, 1, "exit"),
        ("in_thread", 4, 16, "segfault"),
        ("in_loop", 4, 16, "memory"),
        ("in_loop", 8, 128, "exit"),
        ("in_thread", 8, 128, "kill"),
    ],
)
def test_poison_is_dead_lettered_as_crashed_and_nothing_else_is(
    valkey: Server,
    namespace: str,
    tmp_path: Path,
    figures: Figures,
    function: str,
    concurrency: int,
    prefetch: int,
    do: str,
):
    take = f'queue: orders, call: "orders:{function}", concurrency: {concurrency}, prefetch: {prefetch}'
    queues, handlers = {"orders": QUEUE}, {"take": take}
    project = write_orders(tmp_path, valkey.url, namespace, HANDLERS, queues=queues, handlers=handlers)
    project.here("apply")
    count = max(2 * prefetch, 12)
    project.send_many("", do, *[""] * (count - 2))
    run = Run(project)
    try:
        run.line("ready")
        state = wait_until_settled(valkey, namespace, count)
        run.signal(signal.SIGTERM)
        assert run.ended() == 0
    finally:
        run.close()
        print("\n".join(run.rest()))
    assert state == (count - 1, 1)
    [letter] = json.loads(project.leanmq("dlq", "list", "-o", "json").stdout)["messages"]
    assert (letter["reason"], letter["data"]["n"]) == ("crashed", 1)
    starts, ends = runs_of(project, "start"), runs_of(project, "done")
    assert sorted(set(ends)) == [n for n in range(count) if n != 1]
    assert starts.count(1) == 4  # once among others, then alone until its limit
    again = len(starts) - len(set(starts)) - 3
    assert again <= concurrency - 1 + prefetch, "run again: what ran beside it, or was done and not settled"
    figures.report("F9", poison=do, prefetch=prefetch, concurrency=concurrency, sent=count, run_again=again)
