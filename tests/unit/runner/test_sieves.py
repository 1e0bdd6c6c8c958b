"""What lets many messages through in one go decides as what looks at each of them."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.middleware.admission import check_admission, check_all_admission
from leanmq_topology.runner.middleware.contract import check_all_contracts, check_contract
from leanmq_topology.runner.pipeline import Pipeline
from leanmq_topology.topology.model import MessageType, OnFalse, Queue

QUEUE = Queue(name="billing", accepts=("order",), max_deliveries=3)
TYPES = {"order": MessageType(name="order", schema={"type": "object", "required": ["n"]})}
NOW_MS = 1_000

PLAIN = Envelope("m", "order", b'{"n":1}')
KINDS = {
    "plain": PLAIN,
    "written by others": Envelope("m", "order", b'{ "n": 1 }'),
    "expired": Envelope("m", "order", b'{"n":1}', {}, 0, NOW_MS),
    "not expired": Envelope("m", "order", b'{"n":1}', {}, 0, NOW_MS + 1),
    "delivered too often": Envelope("m", "order", b'{"n":1}', {}, 3),
    "unfit": Envelope("m", "order", b"{}"),
    "a key twice": Envelope("m", "order", b'{"n":1,"n":2}'),
    "no JSON": Envelope("m", "order", b"{"),
    "of another type": Envelope("m", "refund", b'{"n":1}'),
}
MIXES = [*itertools.combinations_with_replacement(KINDS, 1), *itertools.permutations(KINDS, 2)]


def make_pipeline(started: list[str]) -> Pipeline:
    return Pipeline(
        QUEUE,
        OnFalse.DEAD_LETTER,
        lambda *_: None,
        (check_admission(QUEUE, lambda: NOW_MS), check_contract(QUEUE, TYPES)),
        mark=lambda message: started.append(message.delivered.entry_id),
        sieves=(check_all_admission(QUEUE), check_all_contracts(QUEUE, TYPES)),
    )


def make_messages(kinds: tuple[str, ...]) -> list[Incoming]:
    lease_ends = time.monotonic() + 60
    return [
        Incoming(Delivered("billing", f"{number}-0", KINDS[kind]), lease_ends)
        for number, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize("kinds", MIXES, ids=" and ".join)
def test_what_passes_in_one_go_would_pass_one_by_one_with_the_same_data(kinds: tuple[str, ...]):
    started: list[str] = []
    pipeline = make_pipeline(started)
    messages, alone = make_messages(kinds), make_messages(kinds)
    verdicts = [pipeline.admit(message, 1.0) for message in alone]
    started.clear()
    if pipeline.admit_all(messages, 1.0):
        assert verdicts == [None] * len(kinds)
        assert [message.data for message in messages] == [message.data for message in alone]
        assert [message.started_at for message in messages] == [1.0] * len(kinds)
        assert started == [message.delivered.entry_id for message in messages]
    else:
        assert not started
        assert [message.started_at for message in messages] == [None] * len(kinds)


def test_plain_messages_pass_in_one_go():
    started: list[str] = []
    assert make_pipeline(started).admit_all(make_messages(("plain",) * 5), 1.0)
    assert len(started) == 5


@pytest.mark.parametrize("change", [{"lost": True}, {"lease_ends": 0.5}], ids=["lost", "lapsed"])
def test_none_passes_in_one_go_with_one_that_is_not_ours(change: dict[str, Any]):
    started: list[str] = []
    messages = make_messages(("plain",) * 3)
    for name, value in change.items():
        setattr(messages[1], name, value)
    assert not make_pipeline(started).admit_all(messages, 1.0)
    assert not started
