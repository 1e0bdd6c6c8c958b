"""What was heard on a channel, as a line for people or an object for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from leanmq_topology.messages.broadcast import ChannelMessage


def describe_message(message: ChannelMessage) -> dict[str, Any]:
    return {
        "channel": message.channel,
        "pattern": message.pattern,
        "id": message.id,
        "type": message.type,
        "sent_at": message.sent_at,
        "headers": dict(message.headers),
        "data": message.data,
    }


def render_message(message: ChannelMessage) -> str:
    """`ticker  price  {"symbol":"ABC"}`; the type is left out where there is none."""
    data = json.dumps(message.data, ensure_ascii=False, separators=(",", ":"))
    return "  ".join(part for part in (message.channel, message.type, data) if part)


def render_counts(counts: Mapping[str, int]) -> str:
    """`3 (news 2, ticker 1)`."""
    total = sum(counts.values())
    if len(counts) < 2:
        return f"{total:,}" + (f" ({next(iter(counts))})" if counts else "")
    parts = ", ".join(f"{channel} {count:,}" for channel, count in sorted(counts.items()))
    return f"{total:,} ({parts})"
