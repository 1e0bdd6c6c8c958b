"""Making the server match a topology, under a lock that fences."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.operation import Operation

if TYPE_CHECKING:
    from leanmq_topology.plan.revision import Revision


class ApplyLock(Struct, frozen=True):
    """The apply lock of a namespace, held by us for `lifetime_ms` from each write or renewal."""

    value: str
    """What stands in the lock: fencing number, random token, holder. Every write checks it."""
    lifetime_ms: int


class LockHeld(Struct, frozen=True):
    """Somebody else applies right now."""

    holder: str
    expires_in_ms: int


class OwnedByAnother(Struct, frozen=True):
    """The namespace belongs to the topology of another name. Nothing was written."""

    owner: str


class LockLost(Struct, frozen=True):
    """The lock lapsed, or the namespace moved on; this step wrote nothing."""

    reason: str


class NotEmpty(Struct, frozen=True):
    """A queue that was to be deleted got messages meanwhile; it was left alone."""

    address: str
    messages: int


class Written(Struct, frozen=True):
    """One step of an apply is done: these resources are made and recorded, or taken away."""

    addresses: tuple[str, ...] = ()
    generation: int | None = None
    """The new generation, with the last step."""


class Applier(Protocol):
    """Needs an admin's rights. Every write is fenced by the lock; every step may be done twice."""

    def take_lock(
        self, owner: str, holder: str, *, lifetime_ms: int
    ) -> Operation[ApplyLock | LockHeld | OwnedByAnother]:
        """`owner` is the topology's name, `holder` says who applies, for whoever finds the lock taken."""
        ...

    def renew_lock(self, lock: ApplyLock) -> Operation[bool]:
        """False: it is not ours any more."""
        ...

    def release_lock(self, lock: ApplyLock) -> Operation[bool]: ...

    def write_revision(
        self, lock: ApplyLock, revision: Revision, done: Collection[str] = ()
    ) -> Iterator[Operation[Written | NotEmpty | LockLost | OwnedByAnother]]:
        """The steps of one apply, each atomic and bounded, to be carried out in this order and to the end.

        The last one makes the new generation visible, adds it to the history and lets the lock go. `done` is
        what the steps before it did (`Written.addresses`), gathered by who carries them out meanwhile.
        """
        ...
