"""One delivery on its way through a worker: what it is, what is known of it, how far it has come."""

from __future__ import annotations

from typing import Any

import msgspec

from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.messages.message import Message
from leanmq_topology.runner.outbox import Outbox, OutputWriter


class Incoming(msgspec.Struct, eq=False, gc=False):
    """Held from the read to the settlement. It is what handlers are offered (`data`, `message`).

    One is made for every message, so it is a struct, which costs a third of a class with slots.
    """

    delivered: Delivered
    lease_ends: float
    """Monotonic seconds; after that somebody else may own it."""
    data: Any = None
    """Decoded and checked, once the pipeline has admitted it."""
    started_at: float | None = None
    """Monotonic seconds; None until its handler is about to be called."""
    finished: bool = False
    """Its outcome is known and on its way: no more renewals."""
    lost: bool = False
    """Somebody else owns it now."""
    writer: OutputWriter | None = None
    """Makes messages of what its handler sends; set when the handler is about to be called."""
    outbox: Outbox | None = None
    """What its handler sends; None until it could."""
    slot: int = 0
    """Where it is marked as started; 0: nowhere."""
    _message: Message | None = None

    def is_ours(self, now: float) -> bool:
        """Whether it is still ours to run, or to settle in time, at `now` (monotonic seconds)."""
        return not self.lost and now < self.lease_ends

    def renew(self, delivered: Delivered, lease_ends: float) -> None:
        """The server handed it to us once more; settling goes by the newest hand-out."""
        self.delivered, self.lease_ends, self.lost = delivered, lease_ends, False

    def stop_renewal(self) -> None:
        """Its run has failed, whatever the handler still does: the lease may end."""
        self.finished = True

    @property
    def message(self) -> Message:
        """Made on demand: most handlers want only the data."""
        if self._message is None:
            self._message = Message.of(self.delivered, self.data, self.open_outbox())
        return self._message

    def open_outbox(self) -> Outbox | None:
        """Where its handler's sends gather; None where there is nobody to send them."""
        if self.outbox is None and self.writer is not None:
            self.outbox = Outbox(self.writer, self.delivered.envelope)
        return self.outbox
