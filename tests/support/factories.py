"""Small topologies, applied without the reconciler, for tests that are about messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from leanmq_topology.brokers.redis.record import RECORD_FORMAT, address_field, encode_resource, queue_meta
from leanmq_topology.topology.model import BrokerSettings, MessageType, Queue, Route, Topology
from leanmq_topology.topology.specs import address_digests, digest, fingerprint, resource_specs


def make_topology(
    namespace: str,
    *queues: Queue,
    routes: tuple[Route, ...] = (),
    messages: tuple[MessageType, ...] = (),
    url: str | None = None,
) -> Topology:
    """A topology of these resources, as the builder would make it."""
    return Topology(
        name=namespace,
        broker=BrokerSettings(url=url, namespace=namespace),
        messages={message.name: message for message in messages},
        queues={queue.name: queue for queue in queues},
        routes={item.name: item for item in routes},
        folder=Path(),
    )


@contextmanager
def applied_file(text: str, url: str, folder: Path) -> Iterator[tuple[Path, BlockingRedisConnection]]:
    """A topology file of this text, on that server as an apply leaves it; and a way past what is tested."""
    file = folder / "topology.yaml"
    file.write_text(text)
    with closing(BlockingRedisConnection.open(parse_address(url))) as admin:
        write_topology(admin, Topology.load(file))
        yield file, admin


def write_topology(connection: BlockingRedisConnection, topology: Topology, *, generation: int = 1) -> None:
    """Put record, limits, streams and groups on the server, as an apply leaves them."""
    keys = Keys(topology.broker.namespace)
    specs = resource_specs(topology)
    fields: dict[str, Any] = {
        "owner": topology.name,
        "format": RECORD_FORMAT,
        "generation": generation,
        "epoch": "e",
        "fingerprint": fingerprint(specs),
    }
    for address, spec in specs.items():
        fields[address] = encode_resource({"hash": digest(spec), "generation": generation, "spec": spec})
    for name, value in address_digests(specs).items():
        fields[address_field(name)] = value
    run(connection, "HSET", keys.topology, *(word for pair in fields.items() for word in pair))
    for queue in topology.queues.values():
        if not run(connection, "EXISTS", keys.queue(queue.name)):
            run(connection, "XGROUP", "CREATE", keys.queue(queue.name), GROUP, "0", "MKSTREAM")
        meta = {"state": "active", "tag": topology.broker.namespace, **queue_meta(queue)}
        run(connection, "HSET", keys.meta(queue.name), *(word for pair in meta.items() for word in pair))


def shorten_records(connection: BlockingRedisConnection, topology: Topology) -> None:
    """Let each queue that takes all at once say so in one field, as an apply does."""
    keys = Keys(topology.broker.namespace)
    for queue in topology.queues.values():
        if queue.max_length is None and not queue.delay_ms:
            counter = run(connection, "HINCRBY", keys.sent, "", 1)
            short = f"{keys.queue(queue.name)} {counter} {queue.ttl_ms or ''}"
            run(connection, "HSET", keys.meta(queue.name), "counter", counter, "short", short)


def run(connection: BlockingRedisConnection, command: str, *words: str | bytes | int) -> Any:
    """One bare command, its raw reply."""
    return connection.execute(Call(command.lower(), command, (), words, lambda reply: reply))
