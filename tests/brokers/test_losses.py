"""Keys go missing under a running worker: noticed, said once, not made again in silence, mended by apply."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from leanmq_topology import Message
from leanmq_topology.topology.model import Queue
from tests.support.scene import NOTICED_SECONDS, Scene, hurry, on_stage
from tests.support.servers import Server
from tests.support.workers import (
    QUICK,
    Place,
    happens,
    load,
    make_topology,
    working,
)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def place(server: Server, namespace: str, tmp_path: Path) -> Place:
    queues = [Queue(name=name, retry=QUICK) for name in ("work", "spare")]
    found = Place(server, make_topology(namespace, tmp_path, *queues))
    found.apply()
    return found


HARM = {
    "stream deleted": ("q", "DEL", "missing"),
    "record deleted": ("m", "DEL", "record_gone"),
    "stream replaced": ("q", "SET", "wrong_type"),
    "record replaced": ("m", "SET", "wrong_type"),
    "stream renamed": ("q", "RENAME", "missing"),
}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("harm", HARM)
async def test_what_is_lost_is_said_once_and_read_again_after_apply(
    place: Place, caplog: pytest.LogCaptureFixture, harm: str
):
    kind, verb, damage = HARM[harm]
    key = place.key(kind, "work")
    async with on_stage(place, caplog) as scene:
        words = {"DEL": (), "SET": ("somebody else's",), "RENAME": (key + "-elsewhere",)}[verb]
        place.command(verb, key, *words)
        await scene.until(lambda: scene.events("queue_missing"), NOTICED_SECONDS)
        [said] = scene.events("queue_missing")
        assert (said.damage, said.queues) == (damage, ["work"])  # type: ignore[attr-defined]
        await scene.handles(1, "spare")
        await scene.until(lambda: [w["damaged"] for w in list_workers(place, "spare")] == [f"work={damage}"])
        assert place.command("EXISTS", key) == (verb == "SET")
        assert place.state("work").damage == damage

        if verb == "SET":
            place.command("DEL", key)
        place.apply()
        await scene.until(lambda: scene.events("queue_back"), NOTICED_SECONDS)
        await scene.handles(2, "work")
        await scene.until(lambda: [w["damaged"] for w in list_workers(place, "spare")] == [""])
        assert len(scene.events("queue_missing")) == len(scene.events("queue_back")) == 1
        assert len(scene.events("read_failed")) <= 1


def list_workers(place: Place, queue: str) -> list[dict[str, str]]:
    with place.link() as link:
        names = link.connection.execute(link.broker.list_consumers([queue]))
        return [dict(found.facts) for found in link.connection.execute(link.broker.inspect_workers(names))]


async def test_a_lost_queue_is_noticed_in_time_and_nobody_spins(
    place: Place, caplog: pytest.LogCaptureFixture
):
    async with on_stage(place, caplog) as scene:
        place.command("DEL", place.key("q", "work"))
        await scene.until(lambda: scene.events("queue_missing"), NOTICED_SECONDS)
        reads, lines = scene.calls("xreadgroup"), len(scene.log.records)
        await asyncio.sleep(2)  # the length of the measurement
        assert scene.calls("xreadgroup") - reads <= 3
        assert len(scene.log.records) - lines <= 1


async def test_a_whole_namespace_is_lost_and_comes_back_without_a_restart(
    place: Place, caplog: pytest.LogCaptureFixture
):
    async with on_stage(place, caplog) as scene:
        place.command("DEL", *scene.key_names())
        await scene.until(
            lambda: scene.events("topology_missing") and scene.events("queue_missing"), NOTICED_SECONDS
        )
        before = len(scene.log.records)
        await asyncio.sleep(1.5)  # the length of the measurement
        assert len(scene.log.records) - before <= 2
        assert not [key for key in scene.key_names() if b":w:" not in key and b":upkeep" not in key]
        place.apply()
        await scene.until(
            lambda: scene.events("topology_back") and scene.events("queue_back"), NOTICED_SECONDS
        )
        await scene.handles(1, "work")
        await scene.handles(1, "spare")
        assert len(scene.events("topology_missing")) == 1
        assert scene.events("generation")


async def test_without_its_topology_a_worker_finishes_what_is_there(
    place: Place, caplog: pytest.LogCaptureFixture
):
    async with on_stage(place, caplog) as scene:
        place.command("DEL", f"{{{place.topology.broker.namespace}}}:topology")
        await scene.until(lambda: scene.events("topology_missing"), NOTICED_SECONDS)
        place.add_raw(
            "work", id="by-hand", type="number", data='{"n":7}', headers="{}", attempt="0", expires=""
        )
        await scene.until(lambda: ("work", 7, 1) in scene.ran)
        assert not scene.events("queue_missing")


async def test_a_destroyed_group_is_made_again_and_loses_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
):
    started, release = asyncio.Event(), asyncio.Event()
    ran: list[tuple[int, int]] = []

    async def handler(message: Message) -> None:
        ran.append((message.data["n"], message.attempt))
        started.set()
        await release.wait()

    with caplog.at_level(logging.INFO, logger="leanmq.runner"):
        async with working(place, load(handler, concurrency=1, prefetch=1)) as running:
            await place.send(1, 2, 3)
            await happens(started)
            place.command("XGROUP", "DESTROY", place.key("q", "work"), "g")
            scene = Scene(place, running, caplog)
            await scene.until(lambda: scene.events("group_rebuilt"), NOTICED_SECONDS)
            release.set()
            await place.until_settled()
    [said] = scene.events("group_rebuilt")
    assert said.messages == 3  # type: ignore[attr-defined]
    assert sorted(number for number, _ in ran) == [1, 2, 3], "the one that ran was not started twice here"


@pytest.mark.usefixtures("hurried")
async def test_what_a_deleted_consumer_held_is_run_by_another_worker(
    place: Place, caplog: pytest.LogCaptureFixture
):
    await place.send(1, 2)
    place.command("XREADGROUP", "GROUP", "g", "deleted", "COUNT", 2, "STREAMS", place.key("q", "work"), ">")
    place.command("XGROUP", "DELCONSUMER", place.key("q", "work"), "g", "deleted")
    async with on_stage(place, caplog) as scene:
        await scene.until(lambda: {("work", 1, 2), ("work", 2, 2)} <= set(scene.ran))
        assert scene.events("orphans_rescued")


@pytest.mark.usefixtures("hurried")
async def test_delayed_messages_survive_the_loss_of_their_indexes(
    place: Place, caplog: pytest.LogCaptureFixture
):
    await place.send(1, 2, delay=3600)
    place.command("DEL", place.key("z", "work"), f"{{{place.topology.broker.namespace}}}:due")
    async with on_stage(place, caplog) as scene:
        await scene.until(lambda: {("work", 1, 1), ("work", 2, 1)} <= set(scene.ran))
        assert scene.events("delayed_rescued")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", ["due", "upkeep"])
async def test_an_index_that_is_not_ours_is_said_once_and_stops_no_reading(
    place: Place, caplog: pytest.LogCaptureFixture, kind: str
):
    key = f"{{{place.topology.broker.namespace}}}:{kind}"
    await place.send(1, delay=1)
    async with on_stage(place, caplog) as scene:
        place.command("SET", key, "somebody else's")
        await scene.until(lambda: scene.events("upkeep_failed"), NOTICED_SECONDS)
        await scene.handles(2, "work")
        before = len(scene.events("upkeep_failed"))
        await asyncio.sleep(1)  # the length of the measurement
        assert len(scene.events("upkeep_failed")) <= before + 1
        place.command("DEL", key)
        await scene.handles(3, "work")
