"""What a message carries from a death into its next life."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from leanmq_topology.messages.codec import DeadLetter

HEADER_REPLAYED: Final = "leanmqreplayed"
"""How often the message was replayed."""
HEADER_LINEAGE: Final = "leanmqlineage"
"""Its deaths, oldest first: `failed@1763793000000-0,expired@…`, reason and entry id of each dead letter."""
MOST_DEATHS: Final = 8
"""Deaths the lineage tells of; older ones are forgotten, but still counted."""


def count_replays(headers: Mapping[str, str]) -> int:
    """How often a message with these headers was replayed."""
    text = headers.get(HEADER_REPLAYED, "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def replayed_headers(letter: DeadLetter, entry_id: str) -> dict[str, str]:
    """The headers with which this dead letter goes back to its queue."""
    headers = dict(letter.envelope.headers)
    deaths = [death for death in headers.get(HEADER_LINEAGE, "").split(",") if death]
    deaths.append(f"{letter.reason.value}@{entry_id}")
    return headers | {
        HEADER_REPLAYED: str(count_replays(headers) + 1),
        HEADER_LINEAGE: ",".join(deaths[-MOST_DEATHS:]),
    }
