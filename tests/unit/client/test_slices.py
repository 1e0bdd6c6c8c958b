"""Calls that are not atomic: what is sent in which step, and what a failure is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from leanmq_topology.client.options import read_options
from leanmq_topology.client.sender import MOST_COPIES
from leanmq_topology.client.slices import Slices
from leanmq_topology.errors import (
    BatchTooLargeError,
    BrokerUnavailableError,
    InvalidMessageError,
    LeanMQError,
    QueueFullError,
)


def slices(items: Any) -> Slices:
    return Slices("billing", items, read_options(), lambda: 0)


def fail(under_way: Slices, failure: LeanMQError) -> None:
    with under_way.tried():
        raise failure


def test_items_are_taken_as_they_are_sent():
    taken = []

    def produce() -> Iterator[dict[str, int]]:
        for n in range(2 * MOST_COPIES + 1):
            taken.append(n)
            yield {"n": n}

    under_way = slices(produce())
    sizes = []
    while batch := under_way.next():
        sizes.append((len(batch.drafts), len(taken)))
    assert sizes == [(1000, 1000), (1000, 2000), (1, 2001)]


def test_a_batch_that_is_too_large_goes_on_as_its_halves_in_order():
    under_way = slices([{"n": n} for n in range(5)])
    whole = under_way.next()
    assert whole is not None
    fail(under_way, BatchTooLargeError(copies=5, size=0))
    halves = [under_way.next(), under_way.next()]
    assert [draft for half in halves if half for draft in half.drafts] == list(whole.drafts)
    assert under_way.next() is None


def test_a_single_message_that_is_too_large_fails():
    under_way = slices([{}])
    under_way.next()
    with pytest.raises(BatchTooLargeError):
        fail(under_way, BatchTooLargeError(copies=1, size=5_000_000))


def test_a_failure_is_told_what_is_stored_and_what_may_be():
    under_way = slices([{}] * (MOST_COPIES + 2))
    first = under_way.next()
    assert first is not None
    under_way.stored += [draft.id for draft in first.drafts]
    second = under_way.next()
    assert second is not None

    lost = BrokerUnavailableError("gone", unknown=True)
    with pytest.raises(BrokerUnavailableError):
        fail(under_way, lost)
    assert lost.stored_ids == tuple(draft.id for draft in first.drafts)
    assert lost.unknown_ids == tuple(draft.id for draft in second.drafts)

    refused = QueueFullError("billing", 5)
    with pytest.raises(QueueFullError):
        fail(under_way, refused)
    assert refused.unknown_ids == ()


def test_data_that_cannot_be_encoded_fails_its_step_and_no_other():
    under_way = slices([{}] * MOST_COPIES + [{"x": float("nan")}])
    first = under_way.next()
    assert first is not None
    under_way.stored += [draft.id for draft in first.drafts]
    with pytest.raises(InvalidMessageError) as caught:
        under_way.next()
    assert len(caught.value.stored_ids) == MOST_COPIES


def test_what_is_wrong_in_a_later_step_is_counted_from_the_first():
    under_way = slices([{}] * MOST_COPIES + [{}, {"x": float("nan")}])
    first = under_way.next()
    assert first is not None
    under_way.stored += [draft.id for draft in first.drafts]
    with pytest.raises(InvalidMessageError) as caught:
        under_way.next()
    assert caught.value.index == MOST_COPIES + 1
