"""Takes in what was handed out in an answer that never came: after a break, and for a process that died."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from leanmq_topology.brokers.protocol import Receiver
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.upkeep.scan import FRONT
from leanmq_topology.upkeep.steps import Steps, ask


def recover_own(
    broker: Receiver,
    queue: str,
    consumer: str,
    known: Callable[[], Iterable[str]],
    take: Callable[[Sequence[Delivered | Undecodable]], object],
) -> Steps[None]:
    """Give to `take`, in parts, all that this consumer holds but what is `known` by then, by entry id.

    It goes through everything once, however much of it is known; what was taken is not asked for again.
    """
    cursor = FRONT
    while True:
        ask_for = broker.fetch_own(queue, consumer, cursor=cursor, known=list(known()))
        cursor, arrived = yield from ask(ask_for)
        if arrived:
            take(arrived)
        if cursor == FRONT:
            return
