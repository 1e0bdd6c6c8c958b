"""One message that a client holds: from the read until it is settled."""

from __future__ import annotations

import time
import weakref
from typing import Any

from leanmq_topology.messages.envelope import Delivered

LONGEST_RENEWAL_SECONDS = 3600.0
"""The lease of a message that nobody settles is renewed for so long, then left to lapse."""


class Held:
    """Written by the reader, by whoever settles it, and by the housekeeper; each field has one writer."""

    __slots__ = (
        "_is_kept",
        "_object",
        "data",
        "delivered",
        "ended",
        "handed_out",
        "late",
        "lease_ends",
        "lost",
        "renewed_until",
    )

    def __init__(self, delivered: Delivered, lease_ends: float) -> None:
        self.delivered = delivered
        self.data: Any = None
        """Decoded and checked, once it is handed out."""
        self.lease_ends = lease_ends
        """Monotonic seconds; after that somebody else may own it."""
        self.handed_out = False
        """The caller has it: its delivery counts from now on."""
        self.ended = False
        """Settled, or on its way to be."""
        self.lost = False
        """Somebody else owns it now."""
        self.late = False
        """It was acknowledged after its lease had lapsed."""
        self.renewed_until = time.monotonic() + LONGEST_RENEWAL_SECONDS
        self._object: weakref.ref[Any] | None = None
        self._is_kept = False

    @property
    def forgotten(self) -> bool:
        """The caller dropped it without settling it, or kept it for too long: its lease is to lapse."""
        if self._is_kept:
            return time.monotonic() >= self.renewed_until
        return self._object is not None and self._object() is None

    @property
    def renewable(self) -> bool:
        return not (self.ended or self.lost or self.forgotten) and time.monotonic() < self.renewed_until

    @property
    def known(self) -> bool:
        """Still ours for all we know, so that it must not be handed out a second time."""
        return not (self.lost or self.forgotten)

    def is_ours(self) -> bool:
        """Whether its lease still runs, as far as our own clock tells."""
        return not self.lost and time.monotonic() < self.lease_ends

    def hand_out(self, delivery: object, *, renew: bool) -> None:
        """The caller gets `delivery`; while that object lives, the lease is renewed."""
        self._object = weakref.ref(delivery)
        self.handed_out = True
        now = time.monotonic()
        self.renewed_until = now + LONGEST_RENEWAL_SECONDS if renew else now

    def keep(self) -> None:
        """The caller has it, and will settle it by its entry id; until then its lease is renewed."""
        self._is_kept = self.handed_out = True
        self.renewed_until = time.monotonic() + LONGEST_RENEWAL_SECONDS
