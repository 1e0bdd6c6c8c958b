"""Queues outside the hash tag of their namespace, as a change of placement would leave them."""

from __future__ import annotations

from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys, escape
from tests.support.factories import run

OWN_KINDS = "qdazbctu"
"""Of keys that belong to a queue alone, so that they go where it goes; its record stays."""


def place(connection: BlockingRedisConnection, namespace: str, queue: str, tag: str) -> None:
    """Let this queue, which is drained, lie under that tag: in one step, as far as anybody can see."""
    keys = Keys(namespace)
    now = find_tag(connection, namespace, queue)
    if now == tag:
        return
    run(connection, "MULTI")
    run(connection, "RENAME", f"{{{now}}}:q:{escape(queue)}", f"{{{tag}}}:q:{escape(queue)}")
    run(connection, "HSET", keys.meta(queue), "tag", tag)
    run(connection, "EXEC")


def find_tag(connection: BlockingRedisConnection, namespace: str, queue: str) -> str:
    tag: bytes = run(connection, "HGET", Keys(namespace).meta(queue), "tag")
    return tag.decode()


def find_keys(connection: BlockingRedisConnection, tag: str, *queues: str) -> set[str]:
    """What the server holds under this tag that belongs to one of these queues alone."""
    found = (key.decode() for key in run(connection, "KEYS", f"{{{tag}}}:*"))
    theirs = {escape(queue) for queue in queues}
    return {key for key in found if key.split(":")[1] in OWN_KINDS and key.split(":")[2] in theirs}
