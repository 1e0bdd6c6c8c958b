"""Durable sends: what is above `memory`, and how a flush of them is confirmed. Both colours stand on this.

They travel on a connection of their own, because everything behind such a flush waits until disk or
replicas have it. One group is in flight at a time; what is sent meanwhile gathers and goes in the next one,
so the cost of waiting is that of a group, not of a message. Levels do not mix in a group: a send that asks
for less must not fail because another asked for more.
"""

from __future__ import annotations

from dataclasses import dataclass

from leanmq_topology.brokers.examination import Examination, Verdict, refuse
from leanmq_topology.brokers.protocol import DurableSender, Flush, Operation, SendResult
from leanmq_topology.topology.durability import Durability


@dataclass(frozen=True, slots=True)
class ConfirmedSender:
    """Sends at one level, for whoever knows how to carry flushes out."""

    broker: DurableSender
    level: Durability
    examination: Examination
    within_ms: int
    """How long disk or replicas may take to have a flush."""

    def send(self, flush: Flush) -> Operation[list[SendResult]]:
        return self.broker.send_confirmed(
            flush, self.level, within_ms=self.within_ms, examination=self.examination
        )


class Levels:
    """Which levels a server can confirm, judged once each."""

    def __init__(
        self, broker: DurableSender, examination: Examination, *, where: str, within_ms: int
    ) -> None:
        self._broker, self._examination, self._where = broker, examination, where
        self._within_ms = within_ms

    def make_sender(self, level: Durability) -> ConfirmedSender:
        """Raises `BrokerRefusedError` for a level the server cannot give; nothing was sent then."""
        found = self._examination.judge(level)
        if found.verdict is Verdict.FAILED:
            raise refuse([found], where=self._where)
        return ConfirmedSender(self._broker, level, self._examination, self._within_ms)
