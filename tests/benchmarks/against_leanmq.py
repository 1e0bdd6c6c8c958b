"""This package's classic interface and the package LeanMQ, on one server, in one run.

    python -m tests.benchmarks.against_leanmq [messages]

Needs LeanMQ (PyPI `leanmq` 0.2.0) beside this package: `pip install leanmq==0.2.0`, in an environment of
its own. Both sides take turns; each figure is the median time of one step, so that a busy machine does not
decide.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from leanmq_topology import LeanMQWebhook
from tests.benchmarks.requests import Bare
from tests.support.servers import start_on_tcp

ROUNDS = 6
BODY = {"order_id": "ORD-12345", "user_id": 42, "items": [{"sku": "A-1", "quantity": 2}], "total": 99.5}
GOALS = {"send a webhook event": 3.0, "receive and acknowledge one": 2.0}
"""At least so many times as fast; all else is not to be slower."""

Steps = Iterator[object]
"""Each turn of it is one step that is timed."""


def send_one(mq: Any, count: int) -> Steps:
    queue, _ = mq.create_queue_pair("sends")
    yield None
    while True:
        yield queue.send_message(BODY)


def send_one_with_a_lifetime(mq: Any, count: int) -> Steps:
    queue, _ = mq.create_queue_pair("lifetimes")
    yield None
    while True:
        yield queue.send_message(BODY, ttl=3600)


def send_a_webhook_event(webhook: Any, count: int) -> Steps:
    """What its guides send with; LeanMQ looks for the queue before each event."""
    webhook.get("/orders")(print)
    yield None
    while True:
        yield webhook.send("/orders", BODY)


def send_a_transaction_of_50(mq: Any, count: int) -> Steps:
    queue, _ = mq.create_queue_pair("transactions")
    yield None
    while True:
        yield send_50(mq, queue)


def receive_and_acknowledge_one(mq: Any, count: int) -> Steps:
    queue = fill(mq, "singly", count)
    yield None
    while True:
        [message] = queue.get_messages()
        yield queue.acknowledge_messages([message.id])


def receive_and_acknowledge_50(mq: Any, count: int) -> Steps:
    queue = fill(mq, "batches", count * 50)
    yield None
    while True:
        messages = queue.get_messages(count=50)
        yield queue.acknowledge_messages([message.id for message in messages])


def dead_letter_50(mq: Any, count: int) -> Steps:
    queue = fill(mq, "deaths", count * 50)
    dlq = mq.get_dead_letter_queue("deaths")
    yield None
    while True:
        yield queue.move_to_dlq([message.id for message in queue.get_messages(count=50)], "no", dlq)


def requeue_50(mq: Any, count: int) -> Steps:
    queue = fill(mq, "requeues", count * 50)
    dlq = mq.get_dead_letter_queue("requeues")
    for _ in range(count):
        queue.move_to_dlq([message.id for message in queue.get_messages(count=50)], "no", dlq)
    yield None
    while True:
        yield dlq.requeue_messages([message.id for message in dlq.get_messages(count=50)], queue)


def list_15_queue_pairs(mq: Any, count: int) -> Steps:
    for number in range(15):
        mq.create_queue_pair(f"listed-{number}")
    yield None
    while True:
        yield mq.list_queues()


MEASURES: dict[Callable[[Any, int], Steps], int] = {
    send_one: 1,
    send_one_with_a_lifetime: 1,
    send_a_webhook_event: 1,
    send_a_transaction_of_50: 10,
    receive_and_acknowledge_one: 1,
    receive_and_acknowledge_50: 20,
    dead_letter_50: 20,
    requeue_50: 40,
    list_15_queue_pairs: 10,
}
"""How much fewer steps than messages asked for."""
OF_WEBHOOKS = frozenset({send_a_webhook_event})
"""Measures of a `LeanMQWebhook`; all others are of its `LeanMQ`."""


def fill(mq: Any, name: str, count: int) -> Any:
    queue, _ = mq.create_queue_pair(name)
    for _ in range(-(-count // 50)):
        send_50(mq, queue)
    return queue


def send_50(mq: Any, queue: Any) -> None:
    with mq.transaction() as tx:
        for _ in range(50):
            tx.send_message(queue, BODY)


def time_steps(steps: Steps, count: int) -> list[float]:
    next(steps)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        next(steps)
        took.append(time.perf_counter() - began)
    return took


def compare(port: int, count: int) -> bool:
    import leanmq

    print(f"{'median time of a step, µs':34}{'LeanMQ':>10}{'here':>10}{'ratio':>8}{'goal':>7}")
    good = True
    for measure, fewer in MEASURES.items():
        steps, name = max(count // fewer // ROUNDS, 5), measure.__name__.replace("_", " ")
        theirs: list[float] = []
        ours: list[float] = []
        for turn in range(ROUNDS):
            place = {"redis_host": "127.0.0.1", "redis_port": port, "prefix": f"{measure.__name__}{turn}:"}
            other = leanmq.LeanMQWebhook(**place | {"prefix": f"their-{place['prefix']}"})
            theirs += time_steps(measure(other if measure in OF_WEBHOOKS else other.mq, steps), steps)
            other.mq.close()
            with LeanMQWebhook(**place) as own:
                ours += time_steps(measure(own if measure in OF_WEBHOOKS else own.mq, steps), steps)
        ratio, goal = statistics.median(theirs) / statistics.median(ours), GOALS.get(name, 1.0)
        good = good and ratio >= goal
        medians = (1e6 * statistics.median(theirs), 1e6 * statistics.median(ours))
        print(
            f"{name:34}{medians[0]:10,.0f}{medians[1]:10,.0f}{ratio:8.2f}{goal:7.1f}"
            f"{'' if ratio >= goal else '  missed'}"
        )
    return good


def tell_the_limit(port: int, count: int) -> None:
    """What is in reach for a single send: LeanMQ's XADD by a program that does nothing else."""
    import leanmq

    theirs: list[float] = []
    bare: list[float] = []
    steps = max(count // ROUNDS, 5)
    for turn in range(ROUNDS):
        other = leanmq.LeanMQ(redis_host="127.0.0.1", redis_port=port, prefix=f"limit{turn}:")
        theirs += time_steps(send_one(other, steps), steps)
        other.close()
        bare += time_steps(add_one(Bare(port)), steps)
    whole, limit = 1e6 * statistics.median(theirs), 1e6 * statistics.median(bare)
    print(f"{'(send one, over a bare socket)':34}{whole:10,.0f}{limit:10,.0f}{whole / limit:8.2f}")


def add_one(line: Bare) -> Steps:
    said = json.dumps(BODY)
    yield None
    while True:
        yield line.ask(("XADD", "limit", "*", "data", said))


def main() -> int:
    if find_spec("leanmq") is None:
        print("LeanMQ is not installed: pip install leanmq==0.2.0", file=sys.stderr)
        return 64
    logging.disable(logging.CRITICAL)  # LeanMQ writes to the root logger
    port, server = start_on_tcp("valkey9", "--appendonly", "yes", "--appendfsync", "everysec")
    try:
        count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
        good = compare(port, count)
        tell_the_limit(port, count)
        return 0 if good else 1
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
