from __future__ import annotations

import time
from typing import Any

import pytest

from leanmq_topology.errors import BrokerUnavailableError
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.topology.model import Queue
from leanmq_topology.upkeep.renewal import LARGEST_RENEWAL, renew, renewal_seconds
from leanmq_topology.upkeep.steps import carry_out

WORK = Queue(name="work", visibility_timeout_ms=30_000)


class One:
    def __init__(self, number: int) -> None:
        self.delivered: Any = number
        self.lease_ends = 0.0


class Server:
    """Renews everything but `taken`; is gone after `fails_after` calls."""

    def __init__(self, taken: set[int], fails_after: int = 10**6) -> None:
        self.taken, self.asked, self._fails_after = taken, list[int](), fails_after

    def extend(self, queue: str, consumer: str, deliveries: list[Delivered]) -> Any:
        return deliveries

    def execute(self, deliveries: Any) -> list[bool]:
        if len(self.asked) >= self._fails_after:
            raise BrokerUnavailableError("gone")
        self.asked.append(len(deliveries))
        return [number not in self.taken for number in deliveries]


def renew_all(server: Any, messages: list[One]) -> list[Any]:
    lost: list[One] = []
    carry_out(renew(server, WORK, "me", messages, lost.append), server)
    return [one.delivered for one in lost]


def test_two_of_three_renewals_may_fail_within_a_lease():
    assert renewal_seconds(WORK) * 3 == 30


def test_a_lease_that_is_renewed_runs_from_the_question_on_and_one_that_is_not_stays_as_it_was():
    messages = [One(0), One(1)]
    before = time.monotonic()
    assert renew_all(Server({1}), messages) == [1]
    assert before + 30 <= messages[0].lease_ends <= time.monotonic() + 30
    assert messages[1].lease_ends == 0


def test_many_are_renewed_in_calls_of_a_bounded_size():
    server = Server(set())
    renew_all(server, [One(number) for number in range(2 * LARGEST_RENEWAL + 1)])
    assert server.asked == [LARGEST_RENEWAL, LARGEST_RENEWAL, 1]


def test_what_was_lost_is_known_even_if_the_next_call_fails():
    lost: list[One] = []
    messages = [One(number) for number in range(LARGEST_RENEWAL + 1)]
    server: Any = Server({7}, fails_after=1)
    with pytest.raises(BrokerUnavailableError):
        carry_out(renew(server, WORK, "me", messages, lost.append), server)
    assert [one.delivered for one in lost] == [7]
