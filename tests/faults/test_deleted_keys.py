"""Somebody deletes one key of a namespace under a live worker: each kind in turn.

What cannot be worked without is told with a name, left alone, and mended by `leanmq apply`. What is only an
index is made again from what it pointed to. What held messages or memories is gone, and nothing else is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.topology.model import KeepAcked, Queue
from tests.faults.catalogue import Figures
from tests.support.scene import Scene, hurry, on_stage
from tests.support.servers import Server
from tests.support.workers import QUICK, Place, make_topology

HOUR_S = 3600


@dataclass(frozen=True)
class Loss:
    """What deleting the keys of one kind comes to."""

    pattern: str
    """After the namespace."""
    incident: str = ""
    """The event that tells it; empty: nothing to tell, or nobody can."""
    made_again: bool = False
    """At once, and rightly so: it holds nothing of anybody."""
    refuses: tuple[str, ...] = ()
    """Queues that may not be sent to until it is mended."""


MATRIX = {
    "topology": Loss("topology", "topology_missing", refuses=("work", "spare")),
    "stream": Loss("q:work", "queue_missing", refuses=("work",)),
    "record": Loss("m:work", "queue_missing", refuses=("work",)),
    "dead letters": Loss("d:work"),
    "acknowledged": Loss("a:work"),
    "times of delayed messages": Loss("z:work", "delayed_rescued"),
    "bodies of delayed messages": Loss("b:work"),
    "index of queues with delayed messages": Loss("due", made_again=True),
    "crash counts": Loss("c:work"),
    "deduplication markers": Loss("u:work:*"),
    "producers' markers": Loss("p:*"),
    "heartbeats": Loss("w:*", made_again=True),
    "who does upkeep": Loss("upkeep", made_again=True),
}


@asynccontextmanager
async def full_scene(
    server: Server, namespace: str, folder: Path, log: pytest.LogCaptureFixture
) -> AsyncIterator[Scene]:
    """One key of every kind that is there while nobody applies or purges."""
    queues = [
        Queue(name="work", retry=QUICK, keep_acked=KeepAcked(count=10)),
        Queue(name="spare", retry=QUICK),
    ]
    place = Place(server, make_topology(namespace, folder, *queues))
    place.apply()
    async with on_stage(place, log) as scene:
        await place.send(-1)
        await place.until(lambda state: state.dead == 1)
        await place.send(77, delay=HOUR_S)
        async with place.client() as client:
            await client.send("work", {"n": 1}, id="known")
        await scene.until(lambda: ("work", 1, 1) in scene.ran)
        place.command("HSET", place.key("c", "work"), "somebody", 1)
        await place.until(lambda state: not (state.ready or state.in_flight))
        yield scene


@pytest.mark.parametrize("kind", MATRIX)
async def test_a_deleted_key_harms_what_it_held_and_nothing_else(
    server: Server, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, figures: Figures,
    monkeypatch: pytest.MonkeyPatch, kind: str,
):  # fmt: skip
    hurry(monkeypatch)
    loss = MATRIX[kind]
    async with full_scene(server, namespace, tmp_path, caplog) as scene:
        keys = find_keys(scene, loss)
        assert keys, "nothing to delete"
        before = len(caplog.records)
        scene.place.command("DEL", *keys)
        if loss.incident:
            await scene.until(lambda: scene.events(loss.incident))
        if loss.made_again:
            await scene.until(lambda: find_keys(scene, loss))
        await goes_on(scene, loss)
        alarms = {
            getattr(record, "event", record.getMessage())
            for record in caplog.records[before:]
            if record.levelname in {"WARNING", "ERROR"}
        }
        assert alarms == ({loss.incident} if loss.incident else set())
        if loss.refuses:
            assert not find_keys(scene, loss), "made again in silence"
            scene.place.apply()
            await scene.until(lambda: scene.events("topology_back") or scene.events("queue_back"))
        for number, queue in enumerate(("work", "spare"), start=100):
            await scene.handles(number, queue)
    figures.report("F43", server=server.kind, deleted=kind, told=int(bool(loss.incident)), others_harmed=0)


def find_keys(scene: Scene, loss: Loss) -> list[bytes]:
    namespace = scene.place.topology.broker.namespace
    found: list[bytes] = scene.place.command("KEYS", rf"\{{{namespace}\}}:{loss.pattern}")
    return found


async def goes_on(scene: Scene, loss: Loss) -> None:
    """Whoever may be sent to is handled; the others refuse, and say why."""
    for number, queue in enumerate(("work", "spare"), start=10):
        if queue in loss.refuses:
            with pytest.raises(TopologyNotAppliedError):
                await scene.place.send(number, queue=queue)
        else:
            await scene.handles(number, queue)


async def test_delayed_messages_come_in_time_without_the_index_of_their_queues(
    server: Server,
    namespace: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    hurry(monkeypatch)
    async with full_scene(server, namespace, tmp_path, caplog) as scene:
        await scene.place.send(5, delay=1)
        scene.place.command("DEL", f"{{{namespace}}}:due")
        await scene.until(lambda: ("work", 5, 1) in scene.ran)
        assert ("work", 77, 1) not in scene.ran


async def test_delayed_messages_without_their_bodies_are_counted_as_vanished(
    server: Server, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with full_scene(server, namespace, tmp_path, caplog) as scene:
        place = scene.place
        place.command("DEL", place.key("b", "work"))
        for member in place.command("ZRANGE", place.key("z", "work"), 0, -1):
            place.command("ZADD", place.key("z", "work"), 1, member)
        place.command("ZADD", f"{{{namespace}}}:due", 1, "work")
        await place.until(lambda state: (state.counters or {}).get("vanished") == 1)
        await scene.handles(10, "work")
