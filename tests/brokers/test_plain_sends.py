"""The short way of a flush: it does what the long way does, and leaves to that one what it cannot do.

The sender chooses by what it knows of the target; what becomes of its messages never depends on that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from leanmq_topology.brokers.protocol import Flush, Full, OutputsSent, Reply, SendResult, Stale, Stored
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.errors import BrokerError, BrokerFullError, QueueFullError
from leanmq_topology.messages.envelope import Once
from leanmq_topology.topology.model import FanoutRoute, Queue, Target
from tests.support.append_log import read_content
from tests.support.factories import make_topology, run, shorten_records, write_topology
from tests.support.senders import open_sender
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, count_calls, count_commands, open_carrier

QUEUES = (Queue(name="one"), Queue(name="two", ttl_ms=60_000), Queue(name="small", max_length=2))
BOTH = FanoutRoute(name="both", to=(Target(queue="one"), Target(queue="two")))


@pytest.fixture(params=[False, True], ids=["whole record", "short record"])
def is_short(request: pytest.FixtureRequest) -> bool:
    """Whether records say in one field that a queue takes all there is, as they do once it was applied."""
    return bool(request.param)


@pytest.fixture(params=COLOURS)
def stage(server: Server, namespace: str, is_short: bool, request: pytest.FixtureRequest) -> Iterator[Stage]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier(request.param, server.url) as carry:
        topology = make_topology(namespace, *QUEUES, routes=(BOTH,))
        stage = Stage(topology, RedisBroker(namespace), carry, admin, server.url)
        if is_short:
            shorten_records(admin, topology)
        yield stage
    admin.close()


def change(stage: Stage, queue: str, *words: Any) -> None:
    """Its record, as an apply would."""
    stage.raw("HSET", stage.keys.meta(queue), *words)
    stage.raw("HDEL", stage.keys.meta(queue), "short")


def flush_of(stage: Stage, target: str, *ids: str, tells_entries: bool = False, **options: Any) -> Flush:
    queues = ("one", "two") if target == "both" else (target,)
    flush = stage.flush(*[stage.outgoing(target, name, *queues, **options) for name in ids])
    return structs.replace(flush, tells_entries=tells_entries)


def send(stage: Stage, flush: Flush) -> list[SendResult]:
    return stage.carry(stage.broker.send(flush))


def lengthen(flush: Flush) -> Flush:
    """The same, for the long way."""
    return structs.replace(flush, sends=tuple(structs.replace(one, plain=False) for one in flush.sends))


def ids(stage: Stage, queue: str) -> list[str]:
    return [flat[1].decode() for _, flat in stage.raw("XRANGE", stage.keys.queue(queue), "-", "+")]


def count_scripts(stage: Stage, flush: Flush) -> tuple[list[SendResult], int]:
    """The answer, and how many scripts it took."""
    before = count_calls(stage)
    answer = send(stage, flush)
    made = count_calls(stage) - before
    return answer, made["evalsha"]


@pytest.mark.parametrize("target", ["one", "both"])
@pytest.mark.parametrize("names", [["m1"], ["m1", "m2", "m3"]], ids=["one", "several"])
def test_the_short_way_costs_two_looks_a_counter_and_a_marker(
    stage: Stage, is_short: bool, target: str, names: list[str]
):
    """And a look for each further queue, of which those whose records say it shortly are counted together."""
    send(stage, flush_of(stage, target, *(f"first {name}" for name in names)))  # its script is loaded by then
    before = count_calls(stage)
    send(stage, flush_of(stage, target, *names))
    made = count_calls(stage) - before
    queues = 2 if target == "both" else 1
    if queues == len(names) == 1 and not is_short:
        assert made["evalsha"] == 2  # the script of a send on its own takes a short record only
        return
    looks = {"evalsha": 1, "hget": 1 + queues, "hmget": 0 if is_short else queues}
    writes = {"xadd": queues * len(names), "hincrby": 1 if is_short else queues, "set": 1}
    expiring = {"time": 1 if queues > 1 else 0}
    assert made == Counter({**looks, **writes, **expiring, "info": 1})  # the last is how they are counted


@pytest.mark.parametrize("ttl_ms", [None, 5_000])
@pytest.mark.parametrize("tells_entries", [False, True])
@pytest.mark.parametrize("target", ["one", "two", "both"])
def test_both_ways_store_and_answer_the_same(
    stage: Stage, target: str, tells_entries: bool, ttl_ms: int | None
):
    """Three sends, of which the last has other headers and a life of its own."""
    flush = flush_of(stage, target, "a", "b", "c", tells_entries=tells_entries, ttl_ms=ttl_ms)
    last = flush.sends[2]
    last = structs.replace(last, ttl_ms=70_000, envelope=structs.replace(last.envelope, headers={}))
    flush = structs.replace(flush, sends=(*flush.sends[:2], last))
    found = []
    for producer, way in {"short": flush, "long": lengthen(flush)}.items():
        answer = send(stage, structs.replace(way, producer=producer))
        stored = {queue: take_entries(stage, queue) for queue in ("one", "two")}
        told = [one.entry_id for one in answer if isinstance(one, Stored)]
        is_told = tells_entries and target != "both"
        assert told == ([entry for entry, *_ in stored[target]] if is_told else [""] * 3)
        copies = [one.copies for one in answer if isinstance(one, Stored)]
        counts = [stage.look(queue).counters["sent"] for queue in ("one", "two")]
        found.append((copies, counts, [row[1:] for rows in stored.values() for row in rows]))
        stage.raw("HDEL", stage.keys.meta("one"), "sent")
        stage.raw("HDEL", stage.keys.meta("two"), "sent")
        stage.raw("DEL", stage.keys.sent)
    assert found[0] == found[1]


@pytest.mark.parametrize("ttl_ms", [None, 5_000, 70_000])
@pytest.mark.parametrize("target", ["one", "two"])
def test_a_send_on_its_own_is_stored_as_the_long_way_stores_it(stage: Stage, target: str, ttl_ms: int | None):
    flush = flush_of(stage, target, "a", ttl_ms=ttl_ms)
    found = []
    for producer, way in {"short": flush, "long": lengthen(flush)}.items():
        answer, scripts = count_scripts(stage, structs.replace(way, producer=producer))
        [(_, *stored)] = take_entries(stage, target)
        found.append((answer, stored, stage.raw("HGET", stage.keys.meta(target), "sent")))
        stage.raw("HDEL", stage.keys.meta(target), "sent")
        assert scripts <= 2  # not by its digest, where the server has to be told the script
    assert found[0] == found[1]
    assert found[0][2] == b"1"


@pytest.mark.parametrize("delay_ms", [None, 5_000])
@pytest.mark.parametrize("queue", ["one", "small"])
@pytest.mark.parametrize("names", [["a"], ["a", "b"]], ids=["one", "several"])
def test_what_never_failed_and_never_expires_is_stored_without_a_word_of_that(
    stage: Stage, queue: str, names: list[str], delay_ms: int | None
):
    send(stage, flush_of(stage, queue, *names, delay_ms=delay_ms))
    stage.make_due(queue)
    stage.carry(stage.broker.maintain([queue]))
    assert [set(fields) for _, fields, _ in take_entries(stage, queue)] == [
        {"id", "type", "data", "headers"} for _ in names
    ]


def take_entries(stage: Stage, queue: str) -> list[tuple[str, dict[str, bytes], int | None]]:
    """Id, fields, and life in seconds of each entry; they are gone then."""
    rows = []
    for entry, flat in stage.raw("XRANGE", stage.keys.queue(queue), "-", "+"):
        fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        expires = fields.pop("expires", b"")
        life_s = round((int(expires) - int(entry.split(b"-")[0])) / 1000) if expires else None
        rows.append((entry.decode(), fields, life_s))
    stage.raw("XTRIM", stage.keys.queue(queue), "MAXLEN", 0)
    return rows


@pytest.mark.parametrize("first_is_plain", [True, False])
@pytest.mark.parametrize("tells_entries", [False, True])
@pytest.mark.parametrize("names", [["a"], ["a", "b"]], ids=["one", "several"])
def test_a_flush_that_comes_again_by_the_other_way_is_known(
    stage: Stage, first_is_plain: bool, tells_entries: bool, names: list[str]
):
    """What a sender knows may change between two tries."""
    flush = flush_of(stage, "one", *names, tells_entries=tells_entries)
    ways = [flush, lengthen(flush)] if first_is_plain else [lengthen(flush), flush]
    assert send(stage, ways[0]) == send(stage, ways[1])
    assert ids(stage, "one") == names


@pytest.mark.parametrize("names", [["a"], ["a", "b"]], ids=["one", "several"])
def test_a_flush_that_comes_again_is_known_whatever_has_changed_since(stage: Stage, names: list[str]):
    flush = flush_of(stage, "one", *names)
    answer = send(stage, flush)
    change(stage, "one", "state", "draining", "max_length", 1, "delay_ms", 5)
    assert send(stage, flush) == answer == [Stored(name, 1) for name in names]
    assert ids(stage, "one") == names


def test_a_queue_that_lies_under_another_tag_than_the_sender_knows_is_left_to_the_long_way(stage: Stage):
    """Which goes where the record says, and finds nothing there."""
    send(stage, flush_of(stage, "one", "m0"))
    change(stage, "one", "tag", "elsewhere")
    assert send(stage, flush_of(stage, "one", "m1")) == [Stale("one", None)]
    assert ids(stage, "one") == ["m0"]


def test_a_flush_that_comes_again_is_known_on_a_full_server(stage: Stage):
    flush = flush_of(stage, "both", "a")
    send(stage, flush)
    stage.raw("CONFIG", "SET", "maxmemory", 1)
    try:
        assert send(stage, flush) == [Stored("a", 2)]
        with pytest.raises(BrokerFullError):
            send(stage, flush_of(stage, "both", "b"))
    finally:
        stage.raw("CONFIG", "SET", "maxmemory", 0)
    assert ids(stage, "one") == ids(stage, "two") == ["a"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_length", 1), ("delay_ms", 60_000), ("state", "draining"), ("state", "retired")],
)
def test_what_the_server_knows_better_counts(stage: Stage, field: str, value: Any):
    send(stage, flush_of(stage, "one", "m0"))
    change(stage, "one", field, value)
    send(stage, lengthen(flush_of(stage, "two", "m0")))  # both scripts are loaded by then
    answer, scripts = count_scripts(stage, flush_of(stage, "one", "m1"))
    expected = {"max_length": Full("one", 1), "delay_ms": Stored("m1", 1), "state": Stale("one", None, "one")}
    assert (answer, scripts) == ([expected[field]], 2)
    assert ids(stage, "one") == ["m0"]
    assert stage.look("one").delayed == (1 if field == "delay_ms" else 0)


def test_what_several_queues_get_together_is_counted_for_each(stage: Stage):
    """Beside what each gets alone, or by the long way."""
    send(stage, flush_of(stage, "both", "a", "b"))
    send(stage, flush_of(stage, "one", "c"))
    send(stage, lengthen(flush_of(stage, "both", "d")))
    send(stage, flush_of(stage, "both", "e"))
    assert [stage.look(queue).counters["sent"] for queue in ("one", "two", "small")] == [5, 4, 0]


def test_a_refused_flush_is_not_counted(stage: Stage):
    send(stage, flush_of(stage, "both", "a"))
    stage.raw("RENAME", stage.keys.queue("two"), stage.keys.inbox("aside"))
    assert send(stage, flush_of(stage, "both", "b")) == [Stale("both", None)]
    assert stage.look("one").counters["sent"] == 1


@pytest.mark.parametrize("foreign", [True, False])
def test_queues_are_counted_one_by_one_where_they_cannot_be_together(stage: Stage, foreign: bool):
    """A thousand sets of queues are counted, then no more; nor is what is not ours written to."""
    if foreign:
        stage.raw("SET", stage.keys.sent, "foreign")
    else:
        stage.raw("HSET", stage.keys.sent, *(word for n in range(1000) for word in (f" {n + 90} 7", 1)))
    before = read_content(stage.url, stage.topology.broker.namespace)[stage.keys.sent]
    send(stage, flush_of(stage, "both", "a", "b"))
    assert [stage.look(queue).counters["sent"] for queue in ("one", "two")] == [2, 2]
    assert read_content(stage.url, stage.topology.broker.namespace)[stage.keys.sent] == before


def test_an_address_that_changed_is_told_and_nothing_is_stored(stage: Stage):
    assert send(stage, flush_of(stage, "both", "m", digest="old")) == [Stale("both", stage.digests["both"])]
    assert send(stage, flush_of(stage, "nowhere", "m")) == [Stale("nowhere", None)]
    assert ids(stage, "one") == ids(stage, "two") == []


@pytest.mark.parametrize("first_is_plain", [True, False])
@pytest.mark.parametrize("tells_entries", [False, True])
def test_a_flush_that_comes_late_is_not_stored_and_the_later_one_stays_known(
    stage: Stage, tells_entries: bool, first_is_plain: bool
):
    """As when an abandoned connection is read after its successor; 9 comes before 10 as text, too."""
    ninth, tenth = (
        structs.replace(flush_of(stage, "one", name, tells_entries=tells_entries), sequence=sequence)
        for sequence, name in ((9, "a"), (10, "b"))
    )
    ways = [ninth, tenth] if first_is_plain else [lengthen(ninth), lengthen(tenth)]
    for flush in ways:
        send(stage, flush)
    marker = stage.raw("GET", stage.keys.producer("p"))
    for flush in (ninth, tenth):
        send(stage, flush)
        assert stage.raw("GET", stage.keys.producer("p")) == marker
    assert ids(stage, "one") == ["a", "b"]


@pytest.mark.parametrize("reply", [None, Reply("nobody", "a", "t", b"{}")], ids=["no reply", "reply"])
def test_what_was_acknowledged_before_does_not_pass_for_a_later_send(stage: Stage, reply: Reply | None):
    """Whatever a producer's marker is written by, the next script must know it for older."""
    send(stage, flush_of(stage, "one", "a"))
    acknowledging = Flush("p", 9, (), all_or_none=True)
    acknowledged = stage.broker.ack_with_outputs("me", stage.fetch_one("one"), acknowledging, reply)
    assert stage.carry(acknowledged) == OutputsSent(True)
    assert send(stage, structs.replace(flush_of(stage, "one", "b"), sequence=10)) == [Stored("b", 1)]
    assert ids(stage, "one") == ["b"]


@pytest.mark.parametrize("target", ["one", "both"])
def test_a_refused_flush_leaves_the_last_one_known_and_may_come_again(stage: Stage, target: str):
    """Its marker is written before its first copy, and must not stand for what was never stored."""
    last, refused = flush_of(stage, target, "a"), flush_of(stage, target, "b")
    send(stage, last)
    stage.raw("RENAME", stage.keys.queue("one"), stage.keys.inbox("aside"))
    assert send(stage, refused) == [Stale(target, None)]
    stage.raw("RENAME", stage.keys.inbox("aside"), stage.keys.queue("one"))
    copies = 2 if target == "both" else 1
    assert send(stage, last)[0] == Stored("a", copies)
    assert send(stage, refused)[0] == Stored("b", copies)
    assert ids(stage, "one") == ["a", "b"]


@pytest.mark.parametrize("target", ["one", "both"])
@pytest.mark.parametrize("missing", ["queue", "meta"])
def test_a_queue_of_which_a_part_was_deleted_stores_no_copy_anywhere(stage: Stage, target: str, missing: str):
    """Whichever of the two it is: nothing stays in the first that the second could not get."""
    for queue in ("one", "two"):
        if target in ("both", queue):
            stage.raw("RENAME", getattr(stage.keys, missing)(queue), stage.keys.inbox("aside"))
            before = read_content(stage.url, stage.topology.broker.namespace)
            assert send(stage, flush_of(stage, target, "m", "n")) == [Stale(target, None)] * 2
            assert read_content(stage.url, stage.topology.broker.namespace) == before
            stage.raw("RENAME", stage.keys.inbox("aside"), getattr(stage.keys, missing)(queue))
    assert send(stage, flush_of(stage, target, "m"))[0] == Stored("m", 2 if target == "both" else 1)


@pytest.mark.parametrize("target", ["one", "both"])
def test_a_queue_whose_record_names_no_life_stores_what_comes(stage: Stage, target: str):
    """A script that failed behind its marker would let the flush that comes again pass for stored."""
    send(stage, flush_of(stage, target, "m0"))
    stage.raw("HDEL", stage.keys.meta("one"), "ttl_ms", "short")
    flush = flush_of(stage, target, "m1")
    assert send(stage, flush) == send(stage, flush) == [Stored("m1", 2 if target == "both" else 1)]
    assert ids(stage, "one") == ["m0", "m1"]


@pytest.mark.parametrize(("target", "queue"), [("one", "one"), ("both", "one"), ("both", "two")])
@pytest.mark.parametrize("kind", ["queue", "meta"])
def test_a_key_that_holds_something_else_is_met_before_anything_is_written(
    stage: Stage, target: str, queue: str, kind: str
):
    key = getattr(stage.keys, kind)(queue)
    stage.raw("DEL", key)
    stage.raw("SET", key, "foreign")
    before = read_content(stage.url, stage.topology.broker.namespace)
    flush = flush_of(stage, target, "m")
    if kind == "meta":
        with pytest.raises(BrokerError, match="WRONGTYPE"):
            send(stage, flush)
    else:  # what is no stream is no queue
        assert send(stage, flush) == [Stale(target, None)]
    assert read_content(stage.url, stage.topology.broker.namespace) == before


@pytest.mark.parametrize(
    "options",
    [{"delay_ms": 60_000}, {"once": (Once(b"id:m", 60_000),)}, {"queues": ()}],
    ids=["delayed", "marked", "unrouted"],
)
def test_what_asks_for_more_goes_the_long_way_at_once(stage: Stage, options: dict[str, Any]):
    send(stage, lengthen(flush_of(stage, "one", "m0")))  # the script is loaded by then
    flush = flush_of(stage, "one", "m")
    flush = structs.replace(flush, sends=tuple(structs.replace(one, **options) for one in flush.sends))
    _, scripts = count_scripts(stage, flush)
    assert scripts == 1
    assert ids(stage, "one") == (["m0", "m"] if "once" in options else ["m0"])


def test_sends_to_several_addresses_go_the_long_way_at_once(stage: Stage):
    send(stage, lengthen(flush_of(stage, "one", "m0")))
    flush = stage.flush(stage.outgoing("one", "m1"), stage.outgoing("two", "m2"))
    assert count_scripts(stage, flush) == ([Stored("m1", 1), Stored("m2", 1)], 1)


def test_a_confirmed_flush_goes_the_long_way(stage: Stage):
    """Every one of its tries must write, so that its wait covers what an earlier try has written."""
    flush = structs.replace(flush_of(stage, "one", "m"), confirmed=True)
    producer = stage.keys.producer("p")
    send(stage, flush)
    stage.raw("PEXPIRE", producer, 60_000)
    send(stage, flush)
    assert stage.raw("PTTL", producer) > 60_000


@pytest.mark.parametrize("colour", COLOURS)
def test_clients_choose_the_way_by_what_is_applied(server: Server, namespace: str, colour: str):
    """One script a send for each kind of queue, and the short one where that will do."""
    topology = make_topology(namespace, *QUEUES, routes=(BOTH,), url=server.url)
    admin = BlockingRedisConnection.open(parse_address(server.url))
    try:
        write_topology(admin, topology)
        shorten_records(admin, topology)
        with open_sender(colour, topology, server.url) as sender:
            for target, looks in {"one": {"hget": 2, "hmget": 0}, "small": {"xlen": 1}}.items():
                sender.send(target, {})  # address and script are known by then
                before = count_commands(admin)
                sender.send(target, {})
                made = count_commands(admin) - before
                assert made["evalsha"] == 1
                assert {name: made[name] for name in looks} == looks
                assert ("xlen" in made) == (target == "small")
    finally:
        admin.close()


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("forgets_scripts", [False, True])
def test_a_client_that_chose_the_short_way_in_vain_hears_what_the_long_way_says(
    server: Server, namespace: str, colour: str, forgets_scripts: bool
):
    topology = make_topology(namespace, *QUEUES, routes=(BOTH,), url=server.url)
    admin = BlockingRedisConnection.open(parse_address(server.url))
    try:
        write_topology(admin, topology)
        with open_sender(colour, topology, server.url) as sender:
            sender.send("one", {})
            run(admin, "HSET", Keys(namespace).meta("one"), "max_length", 1)
            if forgets_scripts:
                run(admin, "SCRIPT", "FLUSH")
            with pytest.raises(QueueFullError):
                sender.send("one", {})
            run(admin, "HSET", Keys(namespace).meta("one"), "max_length", 2)
            assert sender.send("one", {})
    finally:
        admin.close()
