"""Beginning and end of a `LeanMQ`, and a server or a process that goes away."""

from __future__ import annotations

import builtins
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
import redis

import leanmq_topology
from leanmq_topology import LeanMQ, exceptions
from leanmq_topology.classic.place import find_namespace, make_url
from leanmq_topology.exceptions import LeanMQError, MessageError, QueueNotFoundError
from tests.classic.conftest import Apply, Place
from tests.support.processes import wait_until
from tests.support.servers import Server, require_binary

NOBODY_LISTENS = 1
"""A port that only root may listen on, and does not."""


def test_making_one_contacts_nobody():
    with LeanMQ(redis_port=NOBODY_LISTENS) as mq:
        assert mq.prefix == "mq:"


def test_a_server_that_is_not_there_is_a_connection_error_of_every_kind_that_programs_catch():
    mq = LeanMQ(redis_host="127.0.0.1", redis_port=NOBODY_LISTENS, max_retries=0)
    with mq, pytest.raises(exceptions.ConnectionError) as raised:
        mq.create_queue_pair("orders")
    for kind in (LeanMQError, builtins.ConnectionError, redis.ConnectionError, redis.RedisError):
        assert isinstance(raised.value, kind)
    assert "127.0.0.1" in str(raised.value)


def test_a_wrong_password_is_a_connection_error_that_does_not_show_it(place: Place):
    mq = LeanMQ(**place.options, redis_password="p@ss:w/rd")
    with mq, pytest.raises(exceptions.ConnectionError) as raised:
        mq.list_queues()
    assert "p@ss" not in str(raised.value)


def test_a_closed_one_stays_closed_and_says_so(place: Place):
    mq = LeanMQ(**place.options)
    queue, _ = mq.create_queue_pair("orders")
    queue.get_messages()
    for _ in range(2):
        mq.close()
    for use in (lambda: queue.send_message({}), lambda: queue.get_messages(), lambda: mq.list_queues()):
        with pytest.raises(exceptions.ConnectionError, match="was closed"):
            use()


def test_closing_leaves_no_connection_no_thread_and_no_consumer_behind(place: Place):
    def connections() -> int:
        mine = psutil.Process().net_connections("tcp")
        return sum(bool(one.raddr) and one.raddr.port == place.port for one in mine)

    before, open_before = set(threading.enumerate()), connections()
    with LeanMQ(**place.options) as mq:
        queue, _ = mq.create_queue_pair("orders")
        queue.send_message({})
        queue.acknowledge_messages([queue.get_messages()[0].id])
        assert connections() > open_before
    assert connections() == open_before
    wait_until(lambda: set(threading.enumerate()) <= before, "the end of its threads")
    with redis.Redis(port=place.port) as raw:
        key = f"{{{place.prefix.removesuffix(':')}}}:q:orders"
        assert raw.xinfo_groups(key)[0]["consumers"] == 0


def test_importing_configures_no_logging_and_says_its_true_version():
    code = "import logging, leanmq_topology; leanmq_topology.LeanMQ; print(len(logging.getLogger().handlers))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "0\n"
    assert leanmq_topology.__version__
    assert logging.getLogger("leanmq_topology.webhook").handlers == []


@pytest.mark.parametrize(
    ("prefix", "namespace"),
    [("mq:", "mq"), ("shop", "shop"), ("", "leanmq"), (":", "leanmq"), ("a:b:", "a:b"), ("{x}:", "%7Bx%7D")],
)
def test_the_namespace_is_the_prefix_less_one_colon(prefix: str, namespace: str):
    assert find_namespace(prefix) == namespace


def test_what_a_constructor_is_told_becomes_a_url():
    assert make_url("localhost", 6379, 0, None) == "redis://localhost:6379/0"
    assert make_url("::1", 1, 2, "a/b@c") == "redis://:a%2Fb%40c@[::1]:1/2"
    assert make_url("h", 1, 0, None, connection_timeout=0.5).endswith("?connect_timeout=500ms")


def test_every_classic_exception_is_where_programs_import_it_from():
    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        assert issubclass(kind, LeanMQError)
        if name != "ConnectionError":  # at the top it would hide the built-in one from `import *`
            assert getattr(leanmq_topology, name) is kind
    assert issubclass(MessageError, ValueError)
    assert issubclass(QueueNotFoundError, exceptions.QueueError)
    for kind in (exceptions.ConnectionError("away"), exceptions.QueueError("full")):
        assert "away" in repr(kind) or "full" in repr(kind)


DIES = """
    import os, sys
    from leanmq_topology import LeanMQ

    mq = LeanMQ("127.0.0.1", int(sys.argv[1]), prefix=sys.argv[2])
    [message] = mq.get_queue("orders").get_messages(count=1, block_for_seconds=30)
    print(message.message_id, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_consumer_held_comes_back_to_another(place: Place, apply: Apply):
    apply("queues:\n  orders: {visibility_timeout: 5s}\n")
    with LeanMQ(**place.options) as mq:
        queue = mq.get_queue("orders")
        assert queue is not None
        queue.send_message({"n": 1}, message_id="mine")
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(DIES), str(place.port), place.prefix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "mine\n"
            assert queue.get_messages() == []
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        [message] = queue.get_messages(block_for_seconds=60)
        assert (message.message_id, message.delivery_count) == ("mine", 2)


def test_what_a_living_process_holds_stays_its_own_for_longer_than_a_lease(place: Place, apply: Apply):
    apply("queues:\n  orders: {visibility_timeout: 5s}\n")
    with LeanMQ(**place.options) as mq, LeanMQ(**place.options) as other:
        queue, others = mq.get_queue("orders"), other.get_queue("orders")
        assert queue is not None
        assert others is not None
        queue.send_message({"n": 1})
        ids = [message.id for message in queue.get_messages()]  # the messages themselves are let go
        assert others.get_messages(block_for_seconds=8) == []
        assert queue.acknowledge_messages(ids) == 1


@pytest.fixture
def own_server(tmp_path: Path):
    from tests.support.servers import start_on_tcp

    port, server = start_on_tcp("valkey9")
    yield port, server
    server.stop()


def test_a_send_waits_for_a_server_that_restarts(own_server: tuple[int, Server]):
    port, server = own_server
    server.kill()
    disk = ("--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always")
    server = Server("valkey9", require_binary("valkey9"), folder=server.folder, arguments=disk).start()
    try:
        with LeanMQ("127.0.0.1", port, max_retries=40, retry_interval=0.25) as mq:
            queue, _ = mq.create_queue_pair("orders")
            queue.send_message({"n": 1})
            server.kill()
            restart = threading.Timer(0.5, server.start)
            restart.start()
            queue.send_message({"n": 2})
            restart.join()
            assert [message.data["n"] for message in queue.get_messages(count=5, block_for_seconds=10)] == [
                1,
                2,
            ]
    finally:
        server.kill()


def test_max_retries_bounds_how_often_a_call_is_tried(own_server: tuple[int, Server]):
    port, server = own_server
    with LeanMQ("127.0.0.1", port, max_retries=2, retry_interval=0.01) as mq:
        queue, _ = mq.create_queue_pair("orders")
        server.kill()
        began = time.monotonic()
        with pytest.raises(exceptions.ConnectionError):
            queue.send_message({})
        assert time.monotonic() - began < 15


def test_one_made_from_a_topology_sends_by_its_contracts(place: Place, tmp_path: Path, apply: Apply):
    apply(
        f"broker: {{url: '{place.url}'}}\n"
        "messages: {order: {schema: {type: object, required: [id]}}}\n"
        "queues: {orders: {accepts: [order]}, mails: {}}\n"
        "routes: {events: {type: fanout, to: {orders: {}, mails: {}}}}\n"
    )
    with LeanMQ.from_topology(tmp_path / "topology.yaml") as mq:
        assert mq.send("events", {"id": 1})
        with pytest.raises(MessageError, match="id") as raised:
            mq.send("orders", {"no": 1})
        assert raised.value.reason
        orders, mails = mq.get_queue("orders"), mq.get_queue("mails")
        assert orders is not None
        assert mails is not None
        with pytest.raises(MessageError):
            orders.send_message({"no": 1})
        assert [message.data for message in orders.get_messages(count=5)] == [{"id": 1}]
        assert [message.data for message in mails.get_messages(count=5)] == [{"id": 1}]
        pair, _ = mq.create_queue_pair("undeclared")
        pair.send_message({"anything": True})


def test_a_request_is_answered_by_a_worker_or_times_out_as_programs_expect(
    place: Place, tmp_path: Path, apply: Apply
):
    apply(
        f"broker: {{url: '{place.url}'}}\n"
        "messages: {asked: {schema: {type: object}}, given: {schema: {type: object, required: [sum]}}}\n"
        "queues: {sums: {accepts: [asked]}}\n"
        "routes: {add: {type: request, request: asked, reply: given, queue: sums}}\n"
        "handlers: {add: {queue: sums, call: 'adding:add'}}\n"
    )
    (tmp_path / "adding.py").write_text(
        "from leanmq_topology import Reject\n"
        "def add(data):\n"
        "    if 'a' not in data: raise Reject('what to add?')\n"
        "    return {'sum': data['a'] + data['b']}\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "leanmq_topology.cli.main", "run"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with LeanMQ.from_topology(tmp_path / "topology.yaml") as mq:
            assert mq.request("add", {"a": 10, "b": 5}, timeout=60) == {"sum": 15}
            with pytest.raises(ValueError, match="what to add"):
                mq.request("add", {"b": 5}, timeout=60)
            worker.terminate()
            worker.wait(60)
            with pytest.raises(TimeoutError):
                mq.request("add", {"a": 1, "b": 1}, timeout=1.5)
    finally:
        worker.kill()
        worker.wait()


def test_a_declared_queue_is_listed_and_cannot_be_deleted_by_a_call(place: Place, apply: Apply):
    apply("queues:\n  orders: {}\n")
    with LeanMQ(**place.options) as mq:
        with pytest.raises(exceptions.QueueError, match="declared"):
            mq.delete_queue("orders")
        assert mq.get_queue("orders") is not None
        assert [(info.name, info.is_dlq) for info in mq.list_queues()] == [
            (f"{place.prefix}orders", False),
            (f"{place.prefix}orders:dlq", True),
        ]


def test_a_pair_that_is_declared_later_keeps_its_messages_and_follows_the_declaration(
    place: Place, apply: Apply
):
    with LeanMQ(**place.options) as mq:
        queue, _ = mq.create_queue_pair("orders")
        queue.send_message({"n": 1})
        apply("queues:\n  orders: {max_length: 2}\n")
        queue.send_message({"n": 2})
        with pytest.raises(exceptions.QueueError, match="is full"):
            queue.send_message({"n": 3})
        assert [message.data["n"] for message in queue.get_messages(count=5)] == [1, 2]
