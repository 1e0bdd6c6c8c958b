"""Workers as the server knows them, as values: their heartbeat, their names on queues, their leaving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leanmq_topology.brokers.protocol import WorkerState
from leanmq_topology.brokers.redis.calls import Call, Word, load_script
from leanmq_topology.brokers.redis.keys import GROUP, Keys


def heartbeat(
    keys: Keys, worker: str, facts: Mapping[str, str], lifetime_ms: int, queues: Sequence[str]
) -> Call[None]:
    """Be listed as running for so long."""
    words: list[Word] = [word for pair in facts.items() for word in pair]
    return Call(
        "heartbeat",
        load_script("heartbeat"),
        keys.remember(
            (heartbeat, worker, *queues), lambda: (keys.worker(worker), *keys.queues_and_records(queues))
        ),
        (lifetime_ms, GROUP, worker, *words),
        lambda reply: None,
    )


def leave(keys: Keys, worker: str, queues: Sequence[str]) -> Call[int]:
    """Be listed no longer; returns on how many queues the name was given back."""
    places = (keys.worker(worker), *keys.queues_and_records(queues))
    return Call("leave", load_script("leave"), places, (GROUP, worker), int)


def list_consumers(keys: Keys, queues: Sequence[str]) -> Call[list[str]]:
    """Names under which these queues were read, of workers gone too."""
    return Call(
        "list_consumers",
        load_script("inspect_consumers"),
        keys.queues_and_records(queues),
        (GROUP,),
        lambda reply: [name.decode() for name in reply],
    )


def inspect_workers(keys: Keys, names: Sequence[str]) -> Call[list[WorkerState]]:
    """Those of these workers that are running."""

    def read(reply: Any) -> list[WorkerState]:
        rows = zip(names, reply, strict=True)
        return [
            WorkerState(name, _read_facts(flat), max(expires_in_ms, 0))
            for name, (expires_in_ms, flat) in rows
            if flat
        ]

    return Call("inspect_workers", load_script("inspect_workers"), tuple(map(keys.worker, names)), (), read)


def _read_facts(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode("utf-8", "replace") for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))
