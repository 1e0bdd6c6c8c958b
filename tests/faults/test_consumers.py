"""Consumers without a runner, when the server goes away or the program is interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from leanmq_topology import connect_sync
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.topology.model import Queue
from tests.faults.catalogue import Figures
from tests.support.consumers import COLOURS, open_consumer
from tests.support.factories import make_topology, write_topology
from tests.support.servers import Server, require_binary

PATIENCE = 60.0
MESSAGES = 60
WORK = Queue(name="work", visibility_timeout_ms=2000, max_deliveries=50)


@pytest.fixture
def durable() -> Iterator[Server]:
    """A server that has everything on disk before it answers."""
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    running = Server("valkey9", require_binary("valkey9"), arguments=arguments).start()
    yield running
    running.stop()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_consumer_outlives_its_server_and_every_message_is_acknowledged_once(
    durable: Server, namespace: str, colour: str, figures: Figures
):
    topology = make_topology(namespace, WORK)
    admin = BlockingRedisConnection.open(parse_address(durable.url))
    write_topology(admin, topology)
    admin.close()
    with connect_sync(topology, url=durable.url) as mq:
        mq.send_many("work", [{"n": number} for number in range(MESSAGES)])
    done: list[int] = []
    with open_consumer(colour, topology, durable.url) as mq:
        deliveries = mq.consume(batch=7)
        deadline = time.monotonic() + PATIENCE
        while len(set(done)) < MESSAGES:
            assert time.monotonic() < deadline, f"{len(set(done))} of {MESSAGES} came"
            got = mq.next(deliveries)
            if len(done) in {10, 30}:
                durable.kill()
                restart = threading.Timer(0.3, durable.start)
                restart.start()
                mq.call(got.ack())
                restart.join()
            else:
                mq.call(got.ack())
            done.append(got.data["n"])
        mq.end(deliveries)
    admin = BlockingRedisConnection.open(parse_address(durable.url))
    assert sorted(set(done)) == list(range(MESSAGES)), "nothing is lost"
    figures.report("F13", server=durable.kind, call=f"consume, {colour}", lost=0, twice=len(done) - MESSAGES)
    admin.close()


def test_an_interrupted_receive_strands_nothing_and_the_client_works_on(server: Server, namespace: str):
    topology = make_topology(namespace, WORK)
    admin = BlockingRedisConnection.open(parse_address(server.url))
    write_topology(admin, topology)
    admin.close()
    with connect_sync(topology, url=server.url) as mq:
        assert mq.receive("work") == []
        main = threading.main_thread().ident
        assert main is not None
        interruption = threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT])
        interruption.start()
        with pytest.raises(KeyboardInterrupt):
            mq.receive("work", wait=PATIENCE)
        interruption.join()
        mq.send("work", {"n": 1})
        (got,) = mq.receive("work", wait=PATIENCE)
        assert (got.data, got.attempt) == ({"n": 1}, 1)
        got.ack()
