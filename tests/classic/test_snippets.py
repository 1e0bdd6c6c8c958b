"""What LeanMQ's documentation shows, in its order, against a real server; only the import is another."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest

from leanmq_topology import LeanMQ, Message, Queue
from tests.classic.conftest import Apply, Place
from tests.support.processes import wait_until


def test_quick_start(place: Place):
    mq = LeanMQ(redis_host="127.0.0.1", redis_port=place.port, prefix=place.prefix)
    main_queue, dead_letter_queue = mq.create_queue_pair("notifications")
    message_id = main_queue.send_message({"user_id": "123", "message": "Welcome!", "type": "welcome"})
    with mq.transaction() as tx:
        tx.send_message(main_queue, {"message": "first"})
        tx.send_message(main_queue, {"message": "second"})
    messages = main_queue.get_messages(count=5, block_for_seconds=1)
    assert [message.data["message"] for message in messages] == ["Welcome!", "first", "second"]
    assert messages[0].id == message_id
    for message in messages:
        try:
            if message.data["message"] == "second":
                raise RuntimeError("provider is down")
            main_queue.acknowledge_messages([message.id])
        except Exception as failure:
            main_queue.move_to_dlq([message.id], str(failure), dead_letter_queue)
    info = main_queue.get_info()
    assert (info.message_count, info.pending_messages) == (2, 0)
    assert dead_letter_queue.get_info().message_count == 1
    mq.close()


def test_usage(place: Place):
    with LeanMQ(
        redis_host="127.0.0.1",
        redis_port=place.port,
        redis_db=0,
        redis_password=None,
        prefix=place.prefix,
        max_retries=3,
    ) as mq:
        orders_queue, _ = mq.create_queue_pair("orders")
        existing = mq.get_queue("orders")
        assert existing is not None
        assert {(info.name, info.message_count, info.is_dlq) for info in mq.list_queues()} == {
            (f"{place.prefix}orders", 0, False),
            (f"{place.prefix}orders:dlq", 0, True),
        }
        first = orders_queue.send_message({"order_id": "ORD-1"})
        orders_queue.send_message({"order_id": "ORD-2"}, message_id="custom-id-123")
        orders_queue.send_message({"order_id": "ORD-3"}, ttl=3600)
        at_once = orders_queue.get_messages(count=10)
        assert at_once[0].id == first
        assert orders_queue.get_messages(count=5, block_for_seconds=1) == []
        assert orders_queue.get_messages(count=1, consumer_id="worker-1") == []
        assert orders_queue.acknowledge_messages([message.id for message in at_once[:2]]) == 2
        assert orders_queue.delete_messages([at_once[2].id]) == 1
        assert mq.delete_queue("orders", delete_dlq=True) is True


def test_dead_letters(mq: LeanMQ):
    queue, dlq = mq.create_queue_pair("orders")
    queue.send_message({"order_id": 1})
    queue.send_message({"order_id": 2})
    for message in queue.get_messages(count=10):
        try:
            raise ValueError(f"cannot handle {message.data['order_id']}")
        except Exception as failure:
            queue.move_to_dlq([message.id], str(failure), dlq)
    failed = dlq.get_messages(count=10)
    assert [message.data["_failures"][-1]["reason"] for message in failed] == [
        "cannot handle 1",
        "cannot handle 2",
    ]
    assert dlq.requeue_messages([failed[0].id], queue) == 1
    assert dlq.delete_messages([failed[1].id]) == 1
    assert [message.data["order_id"] for message in queue.get_messages(count=10)] == [1]


def test_transactions(mq: LeanMQ):
    orders_queue, _ = mq.create_queue_pair("orders")
    notifications_queue, _ = mq.create_queue_pair("notifications")
    with mq.transaction() as tx:
        tx.send_message(orders_queue, {"order_id": "ORD-1"})
        tx.send_message(notifications_queue, {"text": "order received"})
    assert len(orders_queue.get_messages(count=5)) == 1
    assert len(notifications_queue.get_messages(count=5)) == 1


def test_management(mq: LeanMQ):
    queue, dlq = mq.create_queue_pair("orders")
    for number in range(3):
        queue.send_message({"n": number})
    queue.send_message({"n": "gone"}, ttl=0.02)
    info = queue.get_info()
    assert (info.name, info.message_count, info.pending_messages) == (queue.name, 4, 0)
    time.sleep(0.05)  # the life of a message is what is swept
    assert mq.process_expired_messages() == 1
    queue.move_to_dlq([queue.get_messages()[0].id], "no", dlq)
    retried = [
        mq.get_queue(info.name).requeue_messages(
            [message.id for message in mq.get_queue(info.name).get_messages()]
        )
        for info in mq.list_queues()
        if info.is_dlq
    ]
    assert retried == [1]
    assert queue.purge() == 3


# -- the messaging examples ------------------------------------------------------------------------------


def test_producer_and_consumer(place: Place):
    producer = LeanMQ(**place.options)
    queue, _ = producer.create_queue_pair("tasks")
    sent = [
        queue.send_message(
            {
                "task_id": str(uuid.uuid4()),
                "type": "calculation",
                "params": {"number": number, "data": f"task {number}"},
                "created_at": time.time(),
            }
        )
        for number in range(5)
    ]
    producer.close()

    consumer = LeanMQ(**place.options)
    tasks, dlq = consumer.get_queue("tasks"), consumer.get_dead_letter_queue("tasks")
    assert tasks is not None
    assert dlq is not None
    handled: list[tuple[str, int]] = []
    while len(handled) < 5:
        for message in tasks.get_messages(count=3, block_for_seconds=2):
            handled.append((message.id, message.data["params"]["number"]))
            tasks.acknowledge_messages([message.id])
    assert handled == [(message_id, number) for number, message_id in enumerate(sent)]
    assert tasks.get_messages(count=3, block_for_seconds=0.1) == []
    consumer.close()


def test_the_consumer_ends_politely_while_there_is_no_queue(mq: LeanMQ):
    assert mq.get_queue("tasks") is None


class CalculatorServer:
    """The example's server: a queue for requests, and the reply queue that each request names."""

    def __init__(self, place: Place) -> None:
        self.mq = LeanMQ(**place.options)
        self.requests, self.dlq = self.mq.create_queue_pair("requests")
        self.running = True
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while self.running:
            for message in self.requests.get_messages(count=5, block_for_seconds=0.5):
                self.process(message)
        self.mq.close()

    def process(self, message: Message) -> None:
        data = message.data
        try:
            if not data.get("response_queue") or not data.get("request_id"):
                raise ValueError("missing response_queue or request_id")
            replies, _ = self.mq.create_queue_pair(data["response_queue"])
            self.answer(replies, data)
            self.requests.acknowledge_messages([message.id])
        except Exception as failure:
            if data.get("response_queue") and data.get("request_id"):
                replies, _ = self.mq.create_queue_pair(data["response_queue"])
                replies.send_message(
                    {"request_id": data["request_id"], "error": str(failure), "timestamp": time.time()}
                )
            self.requests.move_to_dlq([message.id], str(failure), self.dlq)

    def answer(self, replies: Queue, data: dict[str, Any]) -> None:
        a, b = data.get("a", 0), data.get("b", 0)
        operations = {
            "add": lambda: a + b,
            "subtract": lambda: a - b,
            "multiply": lambda: a * b,
            "divide": lambda: a / b,
        }
        if data["operation"] not in operations:
            raise ValueError(f"unknown operation: {data['operation']}")
        if data["operation"] == "divide" and b == 0:
            raise ValueError("division by zero")
        result = operations[data["operation"]]()
        replies.send_message(
            {
                "request_id": data["request_id"],
                "result": result,
                "operation": data["operation"],
                "a": a,
                "b": b,
                "timestamp": time.time(),
            }
        )


class CalculatorClient:
    """The example's client: its own reply queue, and a loop that waits for the reply of its request."""

    def __init__(self, place: Place) -> None:
        self.mq = LeanMQ(**place.options)
        self.requests, _ = self.mq.create_queue_pair("requests")
        self.name = f"responses:{uuid.uuid4()}"
        self.replies, _ = self.mq.create_queue_pair(self.name)

    def calculate(self, operation: str, a: float, b: float, timeout: float = 20) -> float:
        request_id = str(uuid.uuid4())
        self.requests.send_message(
            {
                "request_id": request_id,
                "response_queue": self.name,
                "operation": operation,
                "a": a,
                "b": b,
                "timestamp": time.time(),
            }
        )
        deadline = time.time() + timeout
        while time.time() < deadline:
            for message in self.replies.get_messages(count=10, block_for_seconds=1):
                self.replies.acknowledge_messages([message.id])
                if message.data.get("request_id") == request_id:
                    if "error" in message.data:
                        raise ValueError(message.data["error"])
                    return message.data["result"]
        raise TimeoutError(f"no reply within {timeout} s")


def test_calculator_server_and_client(place: Place):
    server = CalculatorServer(place)
    client = CalculatorClient(place)
    server.thread.start()
    try:
        results = [
            client.calculate("add", 10, 5),
            client.calculate("subtract", 20, 7),
            client.calculate("multiply", 6, 4),
            client.calculate("divide", 100, 4),
        ]
        assert results == [15, 13, 24, 25.0]
        with pytest.raises(ValueError, match="division by zero"):
            client.calculate("divide", 1, 0)
        with pytest.raises(ValueError, match="unknown operation"):
            client.calculate("power", 2, 3)
        client.requests.send_message({"operation": "add"})
        wait_until(lambda: server.dlq.get_info().message_count == 3, "three failed requests")
    finally:
        server.running = False
        server.thread.join(20)
    reasons = [message.data["_failures"][-1]["reason"] for message in server_letters(client)]
    assert reasons == [
        "division by zero",
        "unknown operation: power",
        "missing response_queue or request_id",
    ]
    client.mq.close()


def server_letters(client: CalculatorClient) -> list[Message]:
    dlq = client.mq.get_dead_letter_queue("requests")
    assert dlq is not None
    return dlq.get_messages(count=10)


FANOUT = """
queues:
  general: {}
  order-consumer-1: {}
  order-consumer-2: {}
  user-consumer: {}
routes:
  main:
    type: fanout
    to: {general: {}, order-consumer-1: {}, order-consumer-2: {}, user-consumer: {}}
"""


class EventConsumer:
    """The example's consumer: it takes what its `consumer_id` gets, and passes over other types."""

    def __init__(self, place: Place, consumer_id: str, event_types: list[str] | None = None) -> None:
        self.mq = LeanMQ(**place.options)
        queue, dlq = self.mq.get_queue("main"), self.mq.get_dead_letter_queue("main")
        assert queue is not None
        assert dlq is not None
        self.queue, self.dlq = queue, dlq
        self.consumer_id, self.event_types = consumer_id, event_types
        self.handled: list[str] = []

    def consume(self) -> None:
        for message in self.queue.get_messages(count=5, block_for_seconds=0.5, consumer_id=self.consumer_id):
            kind = message.data["event_type"]
            if self.event_types is None or kind in self.event_types:
                if self.process_event(message):
                    self.handled.append(kind)
                else:
                    self.queue.move_to_dlq([message.id], "processing failed", self.dlq)
                    continue
            self.queue.acknowledge_messages([message.id])

    def process_event(self, message: Message) -> bool:
        return not message.data["data"].get("poison")


def publish_event(queue: Queue, event_type: str, event_data: dict[str, Any]) -> str:
    return queue.send_message(
        {
            "event_id": str(uuid.uuid4()),
            "event_type": event_type,
            "data": event_data,
            "timestamp": time.time(),
        }
    )


def test_fan_out(place: Place, apply: Apply):
    apply(FANOUT)
    consumers = [
        EventConsumer(place, "general"),
        EventConsumer(place, "order-consumer-1", ["order.created", "order.updated"]),
        EventConsumer(place, "order-consumer-2", ["order.created", "order.updated"]),
        EventConsumer(place, "user-consumer", ["user.created"]),
    ]
    with LeanMQ(**place.options) as publisher:
        main, _ = publisher.create_queue_pair("main")
        for kind in ("order.created", "user.created", "order.updated"):
            publish_event(main, kind, {"id": 1})
        publish_event(main, "user.created", {"poison": True})
        assert main.get_info().message_count == 16
        for consumer in consumers:
            for _ in range(3):
                consumer.consume()
        handled = {consumer.consumer_id: consumer.handled for consumer in consumers}
        assert handled == {
            "general": ["order.created", "user.created", "order.updated"],
            "order-consumer-1": ["order.created", "order.updated"],
            "order-consumer-2": ["order.created", "order.updated"],
            "user-consumer": ["user.created"],
        }
        dead = publisher.get_dead_letter_queue("main")
        assert dead is not None
        assert sorted(message.id.partition("@")[2] for message in dead.get_messages(count=10)) == [
            "general",
            "user-consumer",
        ]
        assert dead.requeue_messages([message.id for message in dead.get_messages(count=10)]) == 2
        assert dead.get_info().message_count == 0
    for consumer in consumers:
        consumer.mq.close()


def test_a_subscriber_that_the_route_does_not_name_is_an_error_that_names_those_it_does(
    place: Place, apply: Apply
):
    from leanmq_topology.exceptions import QueueError

    apply(FANOUT)
    with LeanMQ(**place.options) as mq:
        queue = mq.get_queue("main")
        assert queue is not None
        with pytest.raises(QueueError, match="no subscriber 'generl'") as raised:
            queue.get_messages(consumer_id="generl")
        assert "'general'" in str(raised.value.hint)


def test_the_route_as_the_place_of_its_dead_letters_is_each_subscribers_own(place: Place, apply: Apply):
    apply(FANOUT)
    with LeanMQ(**place.options) as mq:
        main, dead = mq.create_queue_pair("main")
        publish_event(main, "order.created", {})
        taken = [main.get_messages(consumer_id=name)[0].id for name in ("general", "user-consumer")]
        assert main.move_to_dlq(taken, "bad", dead) == 2
        assert dead.requeue_messages([letter.id for letter in dead.get_messages(count=5)], main) == 2
        for name in ("general", "user-consumer", "order-consumer-1"):
            assert len(main.get_messages(count=5, consumer_id=name)) == 1, name


def test_a_subscribers_dead_letters_go_where_they_are_told_to(place: Place, apply: Apply):
    """Each was silently sent to the subscriber's own place before."""
    apply(FANOUT)
    with LeanMQ(**place.options) as mq:
        main, dead = mq.create_queue_pair("main")
        repair, _ = mq.create_queue_pair("repair")
        own = mq.get_dead_letter_queue("general")
        publish_event(main, "order.created", {})
        [message] = main.get_messages(consumer_id="general")
        assert main.move_to_dlq([message.id], "bad", own) == 1
        [letter] = dead.get_messages(count=5)
        assert dead.requeue_messages([letter.id], repair) == 1
        assert [one.message_id for one in repair.get_messages(count=5)] == [message.message_id]
        assert main.get_messages(consumer_id="general") == []


def test_dead_letters_of_a_route_never_go_to_a_strange_queue(place: Place, apply: Apply):
    from leanmq_topology.exceptions import QueueError

    apply(FANOUT)
    with LeanMQ(**place.options) as mq:
        main, dead = mq.create_queue_pair("main")
        _, strange = mq.create_queue_pair("strange")
        publish_event(main, "order.created", {})
        names = ("general", "user-consumer")
        taken = [main.get_messages(consumer_id=name)[0].id for name in names]
        for wrong in (strange, mq.get_dead_letter_queue("general"), main):
            with pytest.raises(QueueError, match="is not the dead-letter queue of"):
                main.move_to_dlq(taken, "bad", wrong)
        assert dead.get_info().message_count == strange.get_info().message_count == 0
        assert main.move_to_dlq(taken, "bad") == 2
        letters = [letter.id for letter in dead.get_messages(count=5)]
        with pytest.raises(QueueError, match="is a dead-letter queue"):
            dead.requeue_messages(letters, strange)
        assert dead.get_info().message_count == 2
