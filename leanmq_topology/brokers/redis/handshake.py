"""What a new connection says first, and whether the server that answers will do. For both colours, pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from msgspec import Struct

from leanmq_topology.brokers.redis.address import Address
from leanmq_topology.brokers.redis.calls import Word
from leanmq_topology.brokers.redis.failures import translate_reply
from leanmq_topology.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError

OLDEST_VERSION: Final = (6, 2)

GREETING: Final[tuple[Word, ...]] = ("HELLO", 2)
"""RESP2, and one answer that names the server, its version, its role and this connection's id."""


class Greeting(Struct, frozen=True):
    """What a server says of itself and of this connection."""

    connection_id: int
    product: str
    version: str
    role: str
    mode: str


def entrance_words(address: Address, client_name: str) -> list[tuple[Word, ...]]:
    """Commands before the greeting, all answered with OK."""
    words: list[tuple[Word, ...]] = []
    if address.password is not None:
        user = (address.username,) if address.username is not None else ()
        words.append(("AUTH", *user, address.password))
    words.append(("CLIENT", "SETNAME", address.client_name or client_name))
    if address.database:
        words.append(("SELECT", address.database))
    return words


def read_entrance(replies: Sequence[Any], *, where: str, again: bool = False) -> Greeting:
    """The answers to the entrance and to the greeting behind it, as `read_greeting`.

    Raises what the first error reply among them means.
    """
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise _refuse(str(reply), where)
    return read_greeting(replies[-1], where=where, again=again)


def read_greeting(reply: Sequence[Any], *, where: str, again: bool = False) -> Greeting:
    """The greeting of a server that will do. Raises `BrokerRefusedError` for too old or another kind.

    `again`: this connection was a primary's before. A replica in its place is then a failover under way, so
    `BrokerUnavailableError`: another server may answer here soon.
    """
    pairs = {_text(reply[at]): reply[at + 1] for at in range(0, len(reply) - 1, 2)}
    greeting = Greeting(
        connection_id=int(pairs.get("id", 0)),
        product=_text(pairs.get("server", b"redis")),
        version=_text(pairs.get("version", b"0")),
        role=_text(pairs.get("role", b"master")),
        mode=_text(pairs.get("mode", b"standalone")),
    )
    _check_version(greeting, where)
    _check_kind(greeting, where)
    _check_role(greeting, where, again)
    return greeting


def _refuse(text: str, where: str) -> BrokerError:
    if "unknown command" in text.lower():  # a server that does not know HELLO is older than 6.0
        return BrokerRefusedError(
            f"{where} is older than Redis 6.2", hint="use Redis 6.2 or newer, or Valkey"
        )
    return translate_reply(text, where=where)


def _check_version(greeting: Greeting, where: str) -> None:
    numbers = tuple(int(part) for part in re.findall(r"\d+", greeting.version)[:2])
    if numbers < OLDEST_VERSION:
        raise BrokerRefusedError(
            f"{where} is {greeting.product} {greeting.version}; 6.2 is the oldest that works",
            hint="use Redis 6.2 or newer, or Valkey",
        )


def _check_kind(greeting: Greeting, where: str) -> None:
    if greeting.mode == "sentinel":
        raise BrokerRefusedError(
            f"{where} is a Sentinel, not a data server", hint="name the primary it watches"
        )
    if greeting.mode == "cluster":
        raise BrokerRefusedError(f"{where} is a cluster node", hint="Redis Cluster is not supported yet")


def _check_role(greeting: Greeting, where: str, again: bool) -> None:
    if greeting.role in {"replica", "slave"}:
        kind = BrokerUnavailableError if again else BrokerRefusedError
        raise kind(f"{where} is a read-only replica", hint="name the primary instead")


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
