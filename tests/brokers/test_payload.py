"""The payload rules hold at both ends: nobody sends what breaks them, nor gets what strangers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import InvalidMessageError, connect_sync
from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.topology.model import MessageType
from tests.support.servers import Server
from tests.support.workers import NUMBER, Place, load, make_topology, work_queue, working

ANYTHING = MessageType(name=NUMBER.name, schema={"type": "object"})


def nest(levels: int) -> Any:
    """Lists in one another, in an object."""
    data: Any = []
    for _ in range(levels - 2):
        data = [data]
    return {"n": data}


SENT = {
    "NaN": ({"n": float("nan")}, "/n"),
    "infinity": ({"n": float("inf")}, "/n"),
    "more than 64 bits": ({"n": 2**64}, "/n"),
    "a lone surrogate": ({"n": "\ud800"}, "/n"),
    "a key that is no text": ({1: 2}, ""),
    "too deep": (nest(65), "/n"),
    "no JSON": ({"n": {1, 2}}, "/n"),
}
WRITTEN = {
    "NaN": (b'{"n":NaN}', ""),
    "infinity": (b'{"n":1e999}', ""),
    "more than 64 bits": (b'{"n":18446744073709551616}', "/n"),
    "a lone surrogate": (b'{"n":"\\ud800"}', ""),
    "a key twice": (b'{"n":1,"n":2}', "/n"),
    "too deep": (b'{"n":' + b"[" * 64 + b"]" * 64 + b"}", ""),
    "no JSON": (b'{"n":1', ""),
}
EXACT = b'{"n":18446744073709551615,"m":-9223372036854775808,"x":0.1,"t":"\xc3\xa9\xf0\x9f\x98\x80"}'


@pytest.fixture
def place(valkey: Server, namespace: str, tmp_path: Path) -> Place:
    topology = make_topology(namespace, tmp_path, work_queue())
    topology.messages["number"] = ANYTHING  # type: ignore[index]
    found = Place(valkey, topology)
    found.apply()
    return found


def add(place: Place, data: bytes) -> None:
    """An entry as another program might write it."""
    words = [
        b"id",
        b"m",
        b"type",
        b"number",
        b"data",
        data,
        b"headers",
        b"",
        b"attempt",
        b"0",
        b"expires",
        b"",
    ]
    place.command("XADD", place.key("q", "work"), "*", *words)


@pytest.mark.parametrize("rule", SENT)
def test_nothing_that_breaks_a_rule_is_sent(place: Place, rule: str):
    data, where = SENT[rule]
    with (
        connect_sync(place.topology, url=place.server.url) as mq,
        pytest.raises(InvalidMessageError) as caught,
    ):
        mq.send("work", data)
    assert caught.value.path.startswith(where)
    assert place.state().ready == 0


def test_as_deep_as_is_allowed_is_sent(place: Place):
    with connect_sync(place.topology, url=place.server.url) as mq:
        mq.send("work", nest(64))
    assert place.state().ready == 1


@pytest.mark.parametrize("rule", WRITTEN)
async def test_what_a_stranger_wrote_against_a_rule_dies_unchanged_and_is_never_handed_on(
    place: Place, rule: str
):
    raw, where = WRITTEN[rule]
    seen = []

    async def handler(data: Any) -> None:
        seen.append(data)

    add(place, raw)
    add(place, b'{"n":1}')
    async with working(place, load(handler)):
        await place.until(lambda state: state.dead == 1)
        await place.until_settled()
    assert seen == [{"n": 1}]
    [letter] = place.dead_letters()
    assert (letter.reason, letter.envelope.data) == (DeadReason.UNDECODABLE, raw)
    assert where in letter.failure.message


async def test_what_keeps_the_rules_arrives_exact_to_the_last_digit(place: Place):
    seen = []

    async def handler(data: Any) -> None:
        seen.append(data)

    sent = {"n": 2**64 - 1, "m": -(2**63), "x": 0.1, "t": "é😀"}
    add(place, EXACT)
    async with working(place, load(handler)), place.client() as client:
        await client.send("work", sent)
        await place.until(lambda state: (state.counters or {}).get("acked") == 2)
    assert seen == [sent, sent]
