"""An ephemeral message as it travels: published to whoever listens, stored nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import msgspec

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.message import Message


class Broadcast(msgspec.Struct, frozen=True, gc=False):
    """What is published on a channel: JSON of these fields, the data as it was encoded by its sender."""

    id: str
    data: msgspec.Raw
    type: str = ""
    digest: str = ""
    """Of the channel as its sender knew it; empty: nobody declared it."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def envelope(self) -> Envelope:
        return Envelope(self.id, self.type, bytes(self.data), self.headers)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Broadcast).decode


def encode_broadcast(envelope: Envelope, digest: str) -> bytes:
    return _encode(
        Broadcast(envelope.id, msgspec.Raw(envelope.data), envelope.type, digest, envelope.headers)
    )


def decode_broadcast(raw: bytes) -> Broadcast | None:
    """None: some other program published something else here."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class ChannelMessage(Message):
    """A message heard on a channel. There is nothing to settle: it is stored nowhere and comes once."""

    _: KW_ONLY
    channel: str = ""
    pattern: str | None = None
    """The pattern it was heard by; None: the channel was subscribed to by its name."""

    @classmethod
    def heard(cls, broadcast: Broadcast, data: Any, channel: str, pattern: str | None) -> Self:
        envelope = broadcast.envelope
        message = cls.of(Delivered(channel, "", envelope, 0), data)
        object.__setattr__(message, "attempt", 1)
        object.__setattr__(message, "channel", channel)
        object.__setattr__(message, "pattern", pattern)
        return message
