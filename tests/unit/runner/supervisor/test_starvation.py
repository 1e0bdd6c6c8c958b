"""Who ends for want of memory, and who does not. `os._exit` is only noted."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from leanmq_topology.runner.supervisor import starvation
from leanmq_topology.runner.supervisor.members import describe_status
from leanmq_topology.runner.supervisor.wire import NO_MEMORY_EXIT


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(starvation.os, "_exit", codes.append)
    monkeypatch.setattr(threading, "excepthook", lambda failed: None)
    return codes


def starve() -> None:
    raise MemoryError


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_callback_of_the_loop_that_finds_no_memory_ends_the_process(exits: list[int]):
    loop = asyncio.get_running_loop()
    starvation.end_where_memory_ends(loop)
    loop.call_soon(starve)
    await turn()
    assert exits == [NO_MEMORY_EXIT]


async def test_a_connection_that_finds_no_memory_for_what_it_reads_ends_the_process(exits: list[int]):
    class Starving(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            raise MemoryError

    loop = asyncio.get_running_loop()
    starvation.end_where_memory_ends(loop)
    near, far = socket.socketpair()
    transport, _ = await loop.create_connection(Starving, sock=near)
    far.send(b"+PONG\r\n")
    while not exits:
        await asyncio.sleep(0)
    transport.abort()
    far.close()
    assert exits == [NO_MEMORY_EXIT]


async def test_another_mistake_in_a_callback_is_only_told(exits: list[int], caplog: pytest.LogCaptureFixture):
    loop = asyncio.get_running_loop()
    starvation.end_where_memory_ends(loop)
    loop.call_soon(lambda: 1 // 0)
    await turn()
    assert exits == []
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(("name", "ends"), [("leanmq-leases", True), ("of the user", False)])
async def test_a_thread_of_ours_that_finds_no_memory_ends_the_process(
    exits: list[int], name: str, ends: bool
):
    starvation.end_where_memory_ends(asyncio.get_running_loop())
    thread = threading.Thread(target=starve, name=name)
    thread.start()
    thread.join()
    assert exits == [NO_MEMORY_EXIT] * ends


async def test_a_task_that_is_watched_ends_the_process_and_one_that_is_not_does_not(exits: list[int]):
    starvation.end_where_memory_ends(asyncio.get_running_loop())

    async def work() -> None:
        starve()

    tasks = [asyncio.create_task(work()) for _ in range(2)]
    starvation.watch(tasks[0])
    cancelled = asyncio.create_task(asyncio.sleep(60))
    starvation.watch(cancelled)
    cancelled.cancel()
    await asyncio.gather(*tasks, cancelled, return_exceptions=True)
    assert exits == [NO_MEMORY_EXIT]


def test_the_exit_code_is_told_in_words():
    assert describe_status(NO_MEMORY_EXIT) == "no memory was left in it (exit code 71)"
