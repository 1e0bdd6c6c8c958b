"""Queues, dead-letter queues and what is told of them, as programs written for LeanMQ use them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from leanmq_topology import LeanMQ, Message, Queue, QueueInfo
from leanmq_topology.exceptions import MessageError, QueueError, QueueNotFoundError
from tests.classic.conftest import Apply, Place


def test_a_pair_is_made_once_and_found_by_its_short_and_its_full_name(mq: LeanMQ, place: Place):
    main, dead = mq.create_queue_pair("orders")
    created = main.get_info().created_at
    again, _ = mq.create_queue_pair("orders")
    assert isinstance(main, Queue)
    assert isinstance(dead, Queue)
    assert (main.is_dlq, dead.is_dlq) == (False, True)
    assert main.name == f"{place.prefix}orders"
    assert again.get_info().created_at == created
    for name in ("orders", f"{place.prefix}orders"):
        found = mq.get_queue(name)
        assert found is not None
        assert found.name == main.name
        assert mq.get_dead_letter_queue(name).name == dead.name
    by_full_name = mq.get_queue(dead.name)
    assert by_full_name is not None
    assert by_full_name.is_dlq


def test_a_queue_that_was_never_made_is_none(mq: LeanMQ):
    assert mq.get_queue("nothing") is None
    assert mq.get_dead_letter_queue("nothing") is None
    assert mq.list_queues() == []


def test_the_id_of_a_send_is_the_id_of_the_message_received(mq: LeanMQ):
    queue, _ = mq.create_queue_pair("orders")
    sent = [queue.send_message({"number": number}) for number in range(3)]
    received = queue.get_messages(count=10)
    assert [message.id for message in received] == sent
    assert [message.data for message in received] == [{"number": number} for number in range(3)]
    assert {message.delivery_count for message in received} == {1}
    assert all(abs(message.timestamp - time.time()) < 60 for message in received)
    assert isinstance(received[0], Message)


def test_info_of_filled_queues_says_what_they_hold(mq: LeanMQ):
    queue, dead = mq.create_queue_pair("orders")
    for number in range(5):
        queue.send_message({"number": number})
    first, second, *_ = queue.get_messages(count=3)
    queue.acknowledge_messages([first.id])
    queue.move_to_dlq([second.id], "no", dead)
    info = queue.get_info()
    assert info == QueueInfo(
        name=queue.name,
        is_dlq=False,
        message_count=4,
        consumer_group=info.consumer_group,
        pending_messages=1,
        created_at=info.created_at,
    )
    assert dead.get_info().message_count == 1
    assert dead.get_info().pending_messages == 0
    listed = {info.name: info.message_count for info in mq.list_queues()}
    assert listed == {queue.name: 4, dead.name: 1}


def test_an_acknowledged_message_stays_as_history_and_is_not_delivered_again(mq: LeanMQ):
    queue, _ = mq.create_queue_pair("orders")
    queue.send_message({"n": 1})
    [message] = queue.get_messages()
    assert queue.acknowledge_messages([message.id]) == 1
    assert queue.acknowledge_messages([message.id]) == 0
    assert (queue.get_info().message_count, queue.get_info().pending_messages) == (1, 0)
    assert queue.get_messages() == []


def test_a_deleted_message_leaves_nothing(mq: LeanMQ):
    queue, _ = mq.create_queue_pair("orders")
    queue.send_message({"n": 1})
    [message] = queue.get_messages()
    assert queue.delete_messages([message.id]) == 1
    assert queue.delete_messages([message.id]) == 0
    assert queue.get_info().message_count == 0


def test_a_message_can_be_deleted_before_anybody_took_it(mq: LeanMQ):
    queue, _ = mq.create_queue_pair("orders")
    sent = queue.send_message({"n": 1})
    assert queue.delete_messages([sent]) == 1
    assert queue.get_messages() == []


def test_purge_counts_what_went_and_who_waits_goes_on_waiting(mq: LeanMQ, place: Place):
    queue, _ = mq.create_queue_pair("orders")
    for number in range(4):
        queue.send_message({"number": number})
    queue.acknowledge_messages([queue.get_messages()[0].id])
    found: list[Message] = []
    with LeanMQ(**place.options) as other:
        waiting = other.get_queue("orders")
        assert waiting is not None
        assert queue.purge() == 4
        reader = threading.Thread(target=lambda: found.extend(waiting.get_messages(block_for_seconds=20)))
        reader.start()
        assert queue.purge() == 0
        queue.send_message({"number": "after"})
        reader.join(20)
    assert [message.data for message in found] == [{"number": "after"}]


@pytest.mark.parametrize("wait", [None, 0, 0.2, 1])
def test_a_wait_in_vain_ends_on_time(mq: LeanMQ, wait: float | None):
    queue, _ = mq.create_queue_pair("orders")
    queue.get_messages()  # the first call opens what later ones use
    began = time.monotonic()
    assert queue.get_messages(count=5, block_for_seconds=wait) == []
    took = time.monotonic() - began
    assert (wait or 0) - 0.05 <= took < (wait or 0) + 4.5


def test_a_wait_longer_than_any_timeout_of_the_connection_ends_on_time(place: Place):
    """LeanMQ raised `TimeoutError` after 10 s for any wait of 5 s or more, and for 0.5 s another error."""
    longest = 13  # outlasts a read on the server and its margin (10 s), and the 10 s of LeanMQ
    waits = (0, 0.5, 5, longest)

    def wait_for(seconds: float) -> tuple[list[Message], float]:
        with LeanMQ(**place.options) as mq:
            queue, _ = mq.create_queue_pair("orders")
            queue.get_messages()  # the first call opens what later ones use
            began = time.monotonic()
            return queue.get_messages(block_for_seconds=seconds), time.monotonic() - began

    with ThreadPoolExecutor(len(waits)) as threads:
        for seconds, (found, took) in zip(waits, threads.map(wait_for, waits), strict=True):
            assert found == []
            assert seconds - 0.05 <= took < seconds + 4.5


def test_a_waiting_consumer_gets_a_message_as_soon_as_it_is_sent(mq: LeanMQ, place: Place):
    queue, _ = mq.create_queue_pair("orders")
    found: list[Message] = []
    reader = threading.Thread(target=lambda: found.extend(queue.get_messages(block_for_seconds=30)))
    began = time.monotonic()
    reader.start()
    with LeanMQ(**place.options) as sender:
        sent = sender.get_queue("orders").send_message({"n": 1})
    reader.join(30)
    assert [message.id for message in found] == [sent]
    assert time.monotonic() - began < 15


def test_fourteen_threads_may_wait_on_one_object(mq: LeanMQ):
    queue, _ = mq.create_queue_pair("orders")
    found: list[str] = []
    failures: list[Exception] = []

    def wait() -> None:
        try:
            for message in queue.get_messages(block_for_seconds=30):
                found.append(message.id)
                queue.acknowledge_messages([message.id])
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=wait) for _ in range(14)]
    for thread in threads:
        thread.start()
    sent = [queue.send_message({"n": number}) for number in range(14)]
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert sorted(found) == sorted(sent)


def test_two_consumers_share_a_queue_and_each_message_reaches_one(mq: LeanMQ, place: Place):
    queue, _ = mq.create_queue_pair("orders")
    sent = {queue.send_message({"n": number}) for number in range(10)}
    with LeanMQ(**place.options) as other:
        one = {message.id for message in queue.get_messages(count=5, consumer_id="worker-1")}
        two = {
            message.id for message in other.get_queue("orders").get_messages(count=5, consumer_id="worker-2")
        }
    assert one | two == sent
    assert not one & two


def test_what_a_closed_consumer_held_comes_back_counted(mq: LeanMQ, place: Place):
    queue, _ = mq.create_queue_pair("orders")
    queue.send_message({"n": 1}, message_id="mine")
    with LeanMQ(**place.options) as other:
        [first] = other.get_queue("orders").get_messages()
        assert first.delivery_count == 1
    [second] = queue.get_messages(block_for_seconds=30)
    assert (second.message_id, second.redelivered, second.delivery_count) == ("mine", True, 2)


@pytest.mark.parametrize("settle", ["acknowledge_messages", "delete_messages"])
def test_what_was_settled_is_held_no_longer(mq: LeanMQ, settle: str):
    queue, _ = mq.create_queue_pair("orders")
    for number in range(2):
        queue.send_message({"n": number})
    first, second = queue.get_messages(count=2)
    held = mq._line.client._consumer._desks["orders"].shelf.held
    assert set(held) == {first.id, second.id}
    assert getattr(queue, settle)([first.id]) == 1
    assert set(held) == {second.id}


def test_an_id_of_ones_own_is_readable_and_promises_nothing(mq: LeanMQ):
    queue, _ = mq.create_queue_pair("orders")
    sent = [queue.send_message({"n": number}, message_id="custom-id-123") for number in range(2)]
    received = queue.get_messages(count=5)
    assert [message.id for message in received] == sent
    assert {message.message_id for message in received} == {"custom-id-123"}


def test_an_id_of_ones_own_deduplicates_where_the_topology_asks_for_it(mq: LeanMQ, apply: Apply):
    apply("queues:\n  orders: {deduplication: {window: 10m}}\n")
    queue, _ = mq.create_queue_pair("orders")
    for number in range(2):
        queue.send_message({"n": number}, message_id="custom-id-123")
    assert [message.data for message in queue.get_messages(count=5)] == [{"n": 0}]


def test_an_expired_message_is_not_delivered_even_if_nobody_swept(mq: LeanMQ):
    queue, _ = mq.create_queue_pair("orders")
    queue.send_message({"n": 1}, ttl=0.05)
    queue.send_message({"n": 2}, ttl_seconds=60)
    time.sleep(0.1)  # the life of the message is what is tested
    assert [message.data for message in queue.get_messages(count=5)] == [{"n": 2}]


def test_expired_messages_are_counted_once_wherever_they_lie(mq: LeanMQ, place: Place):
    queue, _ = mq.create_queue_pair("orders")
    other, _ = mq.create_queue_pair("invoices")
    queue.send_message({"n": "stays"})
    for number in range(3):
        queue.send_message({"n": number}, ttl=0.05)
    other.send_message({"n": 3}, ttl=0.05)
    time.sleep(0.1)  # the life of the messages is what is tested
    with LeanMQ(**place.options) as second:
        assert mq.process_expired_messages() + second.process_expired_messages() == 4
    assert queue.get_info().message_count == 1


def test_looking_into_a_dead_letter_queue_takes_nothing_out(mq: LeanMQ):
    queue, dead = mq.create_queue_pair("orders")
    queue.send_message({"n": 1})
    [message] = queue.get_messages()
    assert queue.move_to_dlq([message.id], "out of stock", dead) == 1
    assert queue.move_to_dlq([message.id], "out of stock", dead) == 0
    for _ in range(2):
        [letter] = dead.get_messages(count=10)
        assert letter.data["n"] == 1
        assert [failure["reason"] for failure in letter.data["_failures"]] == ["out of stock"]
        assert letter.message_id == message.message_id
    assert queue.get_info().message_count == 0


def test_a_never_delivered_message_is_moved_once_and_not_delivered_any_more(mq: LeanMQ):
    queue, dead = mq.create_queue_pair("orders")
    sent = queue.send_message({"n": 1})
    assert queue.move_to_dlq([sent, sent], "no", dead) == 1
    assert queue.get_messages() == []
    assert dead.get_info().message_count == 1


def test_a_requeued_message_is_as_it_was_sent_and_its_attempts_start_anew(mq: LeanMQ):
    queue, dead = mq.create_queue_pair("orders")
    queue.send_message({"n": 1}, message_id="mine")
    queue.move_to_dlq([queue.get_messages()[0].id], "no")
    [letter] = dead.get_messages()
    assert dead.requeue_messages([letter.id]) == 1
    assert dead.requeue_messages([letter.id]) == 0
    [again] = queue.get_messages()
    assert (again.data, again.message_id, again.attempt) == ({"n": 1}, "mine", 1)
    queue.move_to_dlq([again.id], "no again", dead)
    [letter] = dead.get_messages()
    assert [failure["reason"] for failure in letter.data["_failures"]] == ["manual", "no again"]


def test_a_dead_letter_can_go_to_another_queue(mq: LeanMQ):
    queue, dead = mq.create_queue_pair("orders")
    other, _ = mq.create_queue_pair("by-hand")
    queue.send_message({"n": 1})
    queue.move_to_dlq([queue.get_messages()[0].id], "no", dead)
    assert dead.requeue_messages([dead.get_messages()[0].id], other) == 1
    assert [message.data for message in other.get_messages()] == [{"n": 1}]


@pytest.mark.parametrize("settle", ["delete_messages", "acknowledge_messages"])
def test_a_dead_letter_is_dealt_with_by_deleting_or_acknowledging_it(mq: LeanMQ, settle: str):
    queue, dead = mq.create_queue_pair("orders")
    queue.move_to_dlq([queue.send_message({"n": 1})], "no", dead)
    [letter] = dead.get_messages()
    assert getattr(dead, settle)([letter.id]) == 1
    assert getattr(dead, settle)([letter.id]) == 0
    assert dead.get_messages(count=10, block_for_seconds=0.1) == []


def test_a_deleted_queue_is_gone_and_an_old_handle_says_so(mq: LeanMQ):
    queue, dead = mq.create_queue_pair("orders")
    queue.send_message({"n": 1})
    assert mq.delete_queue("orders", delete_dlq=True) is True
    assert mq.delete_queue("orders") is False
    assert mq.delete_queue("never-made") is False
    for use in (lambda: queue.send_message({}), queue.get_info, queue.purge):
        with pytest.raises(QueueNotFoundError):
            use()
    assert mq.list_queues() == []
    mq.create_queue_pair("orders")
    queue.send_message({"n": 2})
    assert [message.data for message in queue.get_messages(block_for_seconds=5)] == [{"n": 2}]
    assert dead.get_messages() == []


def test_dead_letters_may_outlive_their_queue_and_stay_reachable(mq: LeanMQ):
    queue, dead = mq.create_queue_pair("orders")
    queue.move_to_dlq([queue.send_message({"n": 1})], "no", dead)
    assert mq.delete_queue("orders", delete_dlq=False) is True
    assert mq.get_queue("orders") is None
    left = mq.get_dead_letter_queue("orders")
    assert left is not None
    assert left.get_info().message_count == 1
    assert [info.name for info in mq.list_queues()] == [dead.name]


@pytest.mark.parametrize("name", ["registry", "x:dlq", "x:metadata", "a{b}c", "Größe", "50%", "q" * 300])
def test_any_name_is_a_name_and_disturbs_no_other(mq: LeanMQ, name: str):
    plain, _ = mq.create_queue_pair("x")
    queue, dead = mq.create_queue_pair(name)
    queue.send_message({"n": 1})
    queue.move_to_dlq([queue.send_message({"n": 2})], "no", dead)
    assert plain.get_messages() == []
    assert mq.get_dead_letter_queue("x").get_info().message_count == 0
    assert [message.data for message in queue.get_messages(count=5)] == [{"n": 1}]
    found = mq.get_queue(name)
    assert found is not None
    assert found.name == queue.name


def test_one_prefix_inside_another_keeps_apart(place: Place):
    with LeanMQ(**place.options) as outer, LeanMQ(**place.options | {"prefix": f"{place.prefix}b:"}) as inner:
        outer.create_queue_pair("orders")
        assert inner.list_queues() == []
        assert inner.get_queue("orders") is None


@pytest.mark.parametrize(
    "data",
    [{"n": float("nan")}, {1: "one"}, ["a", "list"], {"when": object()}, "text", {"big": 2**70}, None],
    ids=["NaN", "number as key", "list", "object", "text", "too big", "nothing"],
)
def test_what_json_cannot_carry_is_refused_before_it_is_sent(mq: LeanMQ, data: object):
    queue, _ = mq.create_queue_pair("orders")
    with pytest.raises(MessageError):
        queue.send_message(data)  # type: ignore[arg-type]
    assert queue.get_info().message_count == 0


def test_a_key_called_metadata_is_the_users_own(mq: LeanMQ):
    queue, _ = mq.create_queue_pair("orders")
    data = {"_metadata": {"mine": 1}, "_failures": ["mine"]}
    queue.send_message(data)
    [message] = queue.get_messages()
    assert message.data == data
    queue.move_to_dlq([message.id], "no")
    assert mq.get_dead_letter_queue("orders").get_messages()[0].data == data


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "soon", True])
def test_a_lifetime_that_is_none_is_refused(mq: LeanMQ, ttl: object):
    queue, _ = mq.create_queue_pair("orders")
    with pytest.raises(MessageError, match="ttl"):
        queue.send_message({}, ttl=ttl)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["1-2-3", "99999999999999999999999-0", "rubbish", "", 7, None])
@pytest.mark.parametrize("verb", ["acknowledge_messages", "delete_messages"])
def test_what_is_no_message_id_is_refused_and_nothing_is_done(mq: LeanMQ, verb: str, wrong: object):
    queue, _ = mq.create_queue_pair("orders")
    queue.send_message({})
    [message] = queue.get_messages()
    with pytest.raises(MessageError, match="is not a message id"):
        getattr(queue, verb)([message.id, wrong])
    assert queue.get_info().pending_messages == 1
    assert getattr(queue, verb)([]) == 0


def test_a_queue_that_is_full_says_so(mq: LeanMQ, apply: Apply):
    apply("queues:\n  orders: {max_length: 1}\n")
    queue = mq.get_queue("orders")
    assert queue is not None
    queue.send_message({})
    with pytest.raises(QueueError, match="is full"):
        queue.send_message({})


def test_verbs_of_the_other_kind_of_queue_are_refused(mq: LeanMQ):
    queue, dead = mq.create_queue_pair("orders")
    other, other_dead = mq.create_queue_pair("invoices")
    for misuse in (
        lambda: dead.send_message({}),
        lambda: dead.move_to_dlq(["1-0"], "no"),
        lambda: queue.requeue_messages(["1-0"]),
        lambda: dead.requeue_messages(["1-0"], other_dead),
        lambda: queue.move_to_dlq(["1-0"], "no", other_dead),
        lambda: queue.move_to_dlq(["1-0"], "no", other),
    ):
        with pytest.raises(QueueError):
            misuse()
