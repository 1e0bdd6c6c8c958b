"""Many clients, each a process of its own: `python -m tests.support.calling_crowd` with five arguments.

They are a topology, a URL, the lifetime of an inbox in ms, how many CLIENTS there are, and how many STAY.
Each asks once, with its number, says `answered NUMBER`, and closes; the first STAY of them are still there
when they get SIGKILL. They are forked from here, once all is imported. At last it says `ended`, how many
ended by themselves without an error, and how many were killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter

from leanmq_topology import Topology, connect_sync
from leanmq_topology.client import requesting, requesting_threads

RENEWALS = 4
"""In the lifetime of an inbox, as there are three where it is a minute."""


def call(topology: Topology, url: str, lifetime_ms: int, number: int, *, stays: bool) -> None:
    with connect_sync(topology, url=url) as client:
        client._requester._lifetime_ms = lifetime_ms
        assert client.request("ask", {"n": number}, timeout=60) == {"n": number}
        say("answered", number)
        while stays:
            signal.pause()


def say(*words: object) -> None:
    """One write a line, so that the lines of many processes stay whole."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def fork_caller(topology: Topology, url: str, lifetime_ms: int, number: int, *, stays: bool) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        call(topology, url, lifetime_ms, number, stays=stays)
        code = 0
    finally:
        os._exit(code)


def main(path: str, url: str, lifetime_ms: int, clients: int, staying: int) -> None:
    topology = Topology.load(path)
    requesting.RENEW_SECONDS = lifetime_ms / 1000 / RENEWALS  # type: ignore[misc]  # a minute is long for a test
    requesting_threads.LONGEST_READ_MS = lifetime_ms // RENEWALS  # type: ignore[misc]
    with connect_sync(topology, url=url) as client:
        client.read_destination("ask")  # whatever is imported for it is by now
    for number in range(clients):
        say("caller", number, fork_caller(topology, url, lifetime_ms, number, stays=number < staying))
    endings = Counter(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(clients))
    say("ended", endings[0], endings[-signal.SIGKILL])


if __name__ == "__main__":
    where, server, *numbers = sys.argv[1:]
    main(where, server, *map(int, numbers))
