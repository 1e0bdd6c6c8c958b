"""Transactions as programs written for LeanMQ use them: all of it or nothing."""

from __future__ import annotations

import time

import pytest

from leanmq_topology import LeanMQ, Transaction
from leanmq_topology.exceptions import MessageError, TransactionError
from tests.classic.conftest import Apply


def test_a_transaction_stores_all_of_its_messages_in_their_order(mq: LeanMQ):
    orders, _ = mq.create_queue_pair("orders")
    mails, _ = mq.create_queue_pair("mails")
    with mq.transaction() as tx:
        assert isinstance(tx, Transaction)
        first = tx.send_message(orders, {"n": 1})
        tx.send_message(mails, {"n": 2}, message_id="mine")
        tx.send_message(orders, {"n": 3})
        assert orders.get_messages() == []
    received = orders.get_messages(count=5)
    assert [message.data["n"] for message in received] == [1, 3]
    assert received[0].message_id == first
    assert [message.message_id for message in mails.get_messages(count=5)] == ["mine"]


def test_an_exception_in_the_block_sends_nothing_and_is_the_callers_own(mq: LeanMQ):
    orders, _ = mq.create_queue_pair("orders")
    with pytest.raises(KeyError, match="mine"), mq.transaction() as tx:  # noqa: PT012  its end raises
        tx.send_message(orders, {"n": 1})
        raise KeyError("mine")
    assert orders.get_messages(count=5) == []


def test_each_message_has_its_own_lifetime(mq: LeanMQ):
    orders, _ = mq.create_queue_pair("orders")
    mails, _ = mq.create_queue_pair("mails")
    with mq.transaction() as tx:
        tx.send_message(orders, {"n": "brief"}, ttl=0.05)
        tx.send_message(orders, {"n": "lasting"})
        tx.send_message(mails, {"n": "long"}, ttl=60)
    time.sleep(0.1)  # the life of the first message is what is tested
    assert [message.data["n"] for message in orders.get_messages(count=5)] == ["lasting"]
    [long] = mails.get_messages(count=5)
    assert long.expires_at is not None
    assert 0 < long.expires_at - time.time() <= 61


def test_a_queue_that_is_gone_withholds_all(mq: LeanMQ):
    orders, _ = mq.create_queue_pair("orders")
    gone, _ = mq.create_queue_pair("gone")
    mq.delete_queue("gone")
    with pytest.raises(TransactionError, match="nothing was sent"), mq.transaction() as tx:  # noqa: PT012  its end raises
        tx.send_message(orders, {"n": 1})
        tx.send_message(gone, {"n": 2})
    assert orders.get_messages(count=5) == []


def test_a_full_queue_withholds_all(mq: LeanMQ, apply: Apply):
    apply("queues:\n  small: {max_length: 1}\n  orders: {}\n")
    small, orders = mq.get_queue("small"), mq.get_queue("orders")
    assert small is not None
    assert orders is not None
    with pytest.raises(TransactionError, match="is full"), mq.transaction() as tx:  # noqa: PT012  its end raises
        tx.send_message(orders, {"n": 1})
        tx.send_message(small, {"n": 2})
        tx.send_message(small, {"n": 3})
    assert orders.get_messages(count=5) == []


def test_data_that_breaks_a_declared_schema_withholds_all(mq: LeanMQ, apply: Apply):
    apply(
        "messages: {order: {schema: {type: object, required: [id]}}}\nqueues: {orders: {accepts: [order]}}\n"
    )
    orders = mq.get_queue("orders")
    assert orders is not None
    with pytest.raises(TransactionError, match="id"), mq.transaction() as tx:  # noqa: PT012  its end raises
        tx.send_message(orders, {"id": 1})
        tx.send_message(orders, {"no": 1})
    assert orders.get_messages(count=5) == []


def test_a_transaction_may_be_executed_by_hand_once(mq: LeanMQ):
    orders, _ = mq.create_queue_pair("orders")
    tx = mq.transaction()
    tx.send_message(orders, {"n": 1})
    tx._execute()
    for again in (tx._execute, lambda: tx.send_message(orders, {"n": 2})):
        with pytest.raises(TransactionError, match="has ended"):
            again()
    assert len(orders.get_messages(count=5)) == 1


def test_what_is_no_message_is_refused_where_it_is_added(mq: LeanMQ):
    orders, dead = mq.create_queue_pair("orders")
    with pytest.raises(MessageError), mq.transaction() as tx:
        tx.send_message(orders, {"n": float("nan")})
    with pytest.raises(MessageError), mq.transaction() as tx:
        tx.send_message(dead, {"n": 1})
    with mq.transaction():
        pass
    assert orders.get_info().message_count == 0
