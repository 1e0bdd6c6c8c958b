"""`leanmq trace` as it is typed: one message, wherever it is now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from leanmq_topology import SyncClient, connect_sync
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.client.consuming.blocking import SyncDelivery
from tests.support.commands import Ended, leanmq_here
from tests.support.factories import applied_file, run
from tests.support.servers import Server

TOPOLOGY = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  order: {{schema: {{type: object}}}}
queues:
  billing: {{accepts: [order]}}
  emails: {{accepts: [order]}}
  kept: {{accepts: [order], keep_acked: 10}}
routes:
  orders: {{type: fanout, to: {{billing: {{}}, emails: {{}}, kept: {{}}}}}}
"""


@dataclass
class Shop:
    file: Path
    namespace: str
    admin: BlockingRedisConnection
    client: SyncClient

    def take(self, queue: str) -> SyncDelivery:
        """The next message, in flight until it is settled."""
        [delivery] = self.client.receive(queue, count=1)
        return delivery


@pytest.fixture
def shop(server: Server, namespace: str, tmp_path: Path) -> Iterator[Shop]:
    text = TOPOLOGY.format(namespace=namespace, url=server.url)
    with applied_file(text, server.url, tmp_path) as (file, admin), connect_sync(file) as client:
        yield Shop(file, namespace, admin, client)


Leanmq = Callable[..., Ended]


@pytest.fixture
def leanmq(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Leanmq:
    return lambda *words: leanmq_here(capsys, *words, "-f", str(shop.file))


def places(leanmq: Leanmq, id: str, *words: str) -> list[tuple[str, str]]:
    found = leanmq("trace", id, *words, "-o", "json").json
    assert found["unsearched"] == []
    return [(copy["queue"], copy["state"]) for copy in found["messages"]]


def test_a_message_is_found_wherever_it_is(shop: Shop, leanmq: Leanmq):
    id = shop.client.send("orders", {"n": 1})
    shop.client.send("orders", {"n": 2})
    assert places(leanmq, id) == [("billing", "ready"), ("emails", "ready"), ("kept", "ready")]
    held = shop.take("billing")
    shop.take("emails").nack(delay=3600)
    shop.take("kept").ack()
    assert places(leanmq, id) == [("billing", "in_flight"), ("emails", "delayed"), ("kept", "acked")]
    held.reject("no such card")
    [dead, delayed, acked] = leanmq("trace", id, "-o", "json").json["messages"]
    assert (dead["state"], dead["reason"], dead["error"]["message"]) == ("dead", "rejected", "no such card")
    assert (delayed["attempt"], delayed["data"], acked["id"]) == (1, {"n": 1}, id)


def test_what_is_in_flight_names_who_has_it_and_since_when(shop: Shop, leanmq: Leanmq):
    id = shop.client.send("billing", {"n": 1}, headers={"tenant": "blue"})
    held = shop.take("billing")
    [copy] = leanmq("trace", id, "-o", "json").json["messages"]
    assert copy["worker"]
    assert copy["since"] >= held.sent_at - 1
    lines = [line.split() for line in leanmq("trace", id).out.splitlines()]
    assert lines[0] == [id, "order"]
    assert lines[1][:7] == ["billing", "in", "flight", "with", f"{copy['worker']},", "hand-out", "1,"]
    assert ["header", "tenant", "blue"] in lines
    assert lines[-1] == ["data", '{"n":1}']


def test_what_a_message_caused_is_listed_and_its_whole_story_found(shop: Shop, leanmq: Leanmq):
    first = shop.client.send("billing", {})
    caused = {"causationid": first, "correlationid": first}
    second = shop.client.send("emails", {}, headers={"causationid": first}, correlation_id=first)
    third = shop.client.send("kept", {}, delay=60, headers={"causationid": second}, correlation_id=first)
    shop.client.send("kept", {}, headers={"note": f'"{first}"', "other": first})
    found = leanmq("trace", first, "-o", "json").json
    assert [copy["id"] for copy in found["messages"]] == [first]
    assert [(copy["id"], copy["queue"], copy["headers"]["causationid"]) for copy in found["caused"]] == [
        (second, "emails", caused["causationid"])
    ]
    story = leanmq("trace", first, "--correlation", "-o", "json").json
    assert [copy["id"] for copy in story["messages"]] == [first, second, third]
    assert f"  {second}  order  emails  ready" in leanmq("trace", first).out


def test_what_a_message_caused_is_found_when_the_message_itself_is_gone(shop: Shop, leanmq: Leanmq):
    first = shop.client.send("billing", {})
    second = shop.client.send("emails", {}, headers={"causationid": first})
    shop.take("billing").ack()
    done = leanmq("trace", first)
    assert done.code == 0
    assert done.out.splitlines()[0] == f"{first}  is in no queue any more"
    assert second in done.out


def test_what_a_purge_took_is_found_in_its_trash(shop: Shop, leanmq: Leanmq):
    ready, later = shop.client.send("billing", {}), shop.client.send("billing", {}, delay=60)
    dead = shop.client.send("emails", {})
    shop.take("emails").reject("no")
    assert leanmq("purge", "billing", "--yes").code == 0
    assert leanmq("purge", "emails", "--dead", "--yes").code == 0
    for id, place in ((ready, "ready"), (later, "delayed"), (dead, "dead")):
        [copy] = leanmq("trace", id, "-o", "json").json["messages"]
        assert copy["state"] == place
        assert copy["undo_until"] > copy["since"] - 60
    assert "`leanmq purge --undo billing` brings it back" in leanmq("trace", ready).out
    assert "`leanmq purge --undo emails --dead` brings it back" in leanmq("trace", dead).out
    assert leanmq("purge", "--undo", "billing").code == 0
    assert leanmq("trace", ready, "-o", "json").json["messages"][0]["undo_until"] is None


def test_what_was_acknowledged_after_a_purge_took_it_is_not_said_to_be_purged(shop: Shop, leanmq: Leanmq):
    done, left = shop.client.send("billing", {"n": 1}), shop.client.send("billing", {"n": 2})
    held = shop.take("billing")
    assert leanmq("purge", "billing", "--yes").code == 0
    held.ack()
    assert places(leanmq, left) == [("billing", "ready")]
    assert leanmq("trace", done).code == 1, "undoing the purge would not bring it back"


def test_nothing_is_touched(shop: Shop, leanmq: Leanmq):
    id = shop.client.send("orders", {})
    delayed = shop.client.send("billing", {}, delay=60)
    shop.take("kept").ack()
    shop.take("emails").reject("no")
    before = dump(shop)
    assert leanmq("trace", id).code == leanmq("trace", delayed).code == 0
    assert dump(shop) == before


def dump(shop: Shop) -> dict[bytes, bytes]:
    names = run(shop.admin, "KEYS", f"{{{shop.namespace}}}:[qdazbmt]:*")
    return {name: run(shop.admin, "DUMP", name) for name in names}


def test_a_search_that_was_bounded_says_so(shop: Shop, leanmq: Leanmq):
    ids = shop.client.send_many("billing", [{}] * 600)
    done = leanmq("trace", ids[-1], "--scan", "1")
    assert done.code == 1
    assert "keep_acked" in done.err
    assert "billing: only the first 500 that are ready and in flight were looked at; --scan" in done.err
    found = leanmq("trace", ids[0], "--scan", "1", "-o", "json").json
    assert found["unsearched"] == [{"queue": "billing", "place": "queue", "looked_at": 500}]
    assert "only the first 500" in leanmq("trace", ids[0], "--scan", "1").err
    assert places(leanmq, ids[-1]) == [("billing", "ready")]


def test_what_is_not_ours_to_read_is_passed_over(shop: Shop, leanmq: Leanmq):
    id = shop.client.send("billing", {})
    run(shop.admin, "XADD", Keys(shop.namespace).queue("billing"), "*", "id", id, "x", "1")
    run(shop.admin, "XADD", Keys(shop.namespace).queue("billing"), "*", "headers", f'"{id}"')
    assert places(leanmq, id) == [("billing", "ready")]


def test_a_message_that_is_gone_is_said_to_be(shop: Shop, leanmq: Leanmq):
    id = shop.client.send("billing", {})
    shop.take("billing").ack()
    done = leanmq("trace", id)
    assert (done.code, done.out) == (1, "")
    assert f"no message {id!r} lies in a queue of namespace" in done.err
    assert "unless its queue says `keep_acked`" in done.err


def test_an_id_is_needed(leanmq: Leanmq):
    assert leanmq("trace").code == 64
    assert leanmq("trace", "x", "--scan", "0").code == 64
