"""Which servers will do."""

from __future__ import annotations

from typing import Any

import pytest

from leanmq_topology.brokers.redis.address import Address
from leanmq_topology.brokers.redis.handshake import entrance_words, read_greeting
from leanmq_topology.errors import BrokerRefusedError


def greet(**facts: Any) -> list[Any]:
    known = {
        "server": b"redis",
        "version": b"6.2.14",
        "proto": 2,
        "id": 4,
        "mode": b"standalone",
        "role": b"master",
    }
    return [word for name, value in (known | facts).items() for word in (name.encode(), value)]


def test_a_server_that_will_do_tells_its_name_version_and_our_number():
    greeting = read_greeting(greet(server=b"valkey", version=b"9.1.2"), where="redis://h")
    assert (greeting.product, greeting.version, greeting.connection_id) == ("valkey", "9.1.2", 4)


@pytest.mark.parametrize("version", [b"6.2.0", b"7.0.15", b"8.10.1", b"10.0.0"])
def test_newer_versions_will_do(version: bytes):
    assert read_greeting(greet(version=version), where="h").version == version.decode()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"version": b"6.0.16"}, "6.2 is the oldest"),
        ({"version": b"5.9"}, "6.2 is the oldest"),
        ({"role": b"replica"}, "read-only replica"),
        ({"role": b"slave"}, "read-only replica"),
        ({"mode": b"sentinel"}, "Sentinel"),
        ({"mode": b"cluster"}, "cluster node"),
    ],
)
def test_a_server_that_will_not_do_is_refused_in_one_sentence_with_a_remedy(
    facts: dict[str, Any], reason: str
):
    with pytest.raises(BrokerRefusedError, match=reason) as caught:
        read_greeting(greet(**facts), where="redis://h")
    assert caught.value.hint


def test_the_entrance_names_only_what_the_address_has():
    assert entrance_words(Address(), "me") == [("CLIENT", "SETNAME", "me")]
    assert entrance_words(Address(password="p", database=3, client_name="mine"), "me") == [
        ("AUTH", "p"),
        ("CLIENT", "SETNAME", "mine"),
        ("SELECT", 3),
    ]
    assert entrance_words(Address(username="u", password="p"), "me")[0] == ("AUTH", "u", "p")
