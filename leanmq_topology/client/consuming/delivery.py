"""A message that was handed to you, to be read and then settled."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import KW_ONLY, dataclass, field
from typing import Protocol, Self

from leanmq_topology.client.consuming.settling import Grip
from leanmq_topology.messages.message import Message


class AsyncSettler(Protocol):
    """Carries the verbs out (`AsyncConsumer`)."""

    def ack(self, grip: Grip) -> Awaitable[None]: ...
    def nack(self, grip: Grip, delay: float | str | None, reason: str) -> Awaitable[None]: ...
    def reject(self, grip: Grip, reason: str) -> Awaitable[None]: ...
    def release(self, grip: Grip) -> Awaitable[None]: ...
    def discard(self, grip: Grip) -> Awaitable[None]: ...
    def delete(self, grip: Grip) -> Awaitable[None]: ...
    def extend(self, grip: Grip, seconds: float | str) -> Awaitable[None]: ...


class Settler(Protocol):
    """Carries the verbs out (`SyncConsumer`)."""

    def ack(self, grip: Grip) -> None: ...
    def nack(self, grip: Grip, delay: float | str | None, reason: str) -> None: ...
    def reject(self, grip: Grip, reason: str) -> None: ...
    def release(self, grip: Grip) -> None: ...
    def discard(self, grip: Grip) -> None: ...
    def delete(self, grip: Grip) -> None: ...
    def extend(self, grip: Grip, seconds: float | str) -> None: ...


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Handed(Message):
    _: KW_ONLY
    _grip: Grip = field(repr=False, compare=False)

    @property
    def entry_id(self) -> str:
        """The server's own id of this entry: another one after each retry or replay."""
        return self._grip.held.delivered.entry_id

    @property
    def late(self) -> bool:
        """It was acknowledged after its lease had lapsed. That is taken, but it may have run twice."""
        return self._grip.held.late

    @property
    def settled(self) -> bool:
        return self._grip.held.ended


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Delivery(_Handed):
    """A `Message`, and the verbs that settle it, once. While this object lives its lease is renewed.

    Every verb raises `LeaseLostError` when the message was settled before, or (but for `ack` and `delete`,
    which are taken late too) when somebody else owns it by now; nothing changes then.
    """

    _: KW_ONLY
    _settler: AsyncSettler = field(repr=False, compare=False)

    @classmethod
    def make(cls, grip: Grip, settler: AsyncSettler) -> Self:
        return cls.of(grip.held.delivered, grip.held.data, _grip=grip, _settler=settler)

    async def ack(self) -> None:
        """It is done: it leaves the queue (into its history where the queue keeps one)."""
        await self._settler.ack(self._grip)

    async def nack(self, *, delay: float | str | None = None, reason: str = "") -> None:
        """It failed: deliver it again after `delay` (by the queue's backoff if None); the failure counts.

        On the last of its deliveries it is dead-lettered with the reason.
        """
        await self._settler.nack(self._grip, delay, reason)

    async def reject(self, reason: str = "") -> None:
        """Dead-letter it now, as `rejected`, without further deliveries."""
        await self._settler.reject(self._grip, reason)

    async def release(self) -> None:
        """Hand it back as if it had never been handed out: anybody may have it at once, nothing counts."""
        await self._settler.release(self._grip)

    async def discard(self) -> None:
        """Take it out of the queue and forget it; counted apart from success."""
        await self._settler.discard(self._grip)

    async def delete(self) -> None:
        """As `ack`, and no copy is kept even where the queue keeps what was acknowledged."""
        await self._settler.delete(self._grip)

    async def extend(self, seconds: float | str) -> None:
        """Renew the lease now, and go on renewing it for so long from now."""
        await self._settler.extend(self._grip, seconds)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SyncDelivery(_Handed):
    """As `Delivery`, blocking."""

    _: KW_ONLY
    _settler: Settler = field(repr=False, compare=False)

    @classmethod
    def make(cls, grip: Grip, settler: Settler) -> Self:
        return cls.of(grip.held.delivered, grip.held.data, _grip=grip, _settler=settler)

    def ack(self) -> None:
        """As `Delivery.ack`."""
        self._settler.ack(self._grip)

    def nack(self, *, delay: float | str | None = None, reason: str = "") -> None:
        """As `Delivery.nack`."""
        self._settler.nack(self._grip, delay, reason)

    def reject(self, reason: str = "") -> None:
        """As `Delivery.reject`."""
        self._settler.reject(self._grip, reason)

    def release(self) -> None:
        """As `Delivery.release`."""
        self._settler.release(self._grip)

    def discard(self) -> None:
        """As `Delivery.discard`."""
        self._settler.discard(self._grip)

    def delete(self) -> None:
        """As `Delivery.delete`."""
        self._settler.delete(self._grip)

    def extend(self, seconds: float | str) -> None:
        """As `Delivery.extend`."""
        self._settler.extend(self._grip, seconds)
