"""What the durability of a topology covers, in a line for each level. Display only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leanmq_topology.topology.durability import MEMORY, Durability

_MOST_NAMES = 5

_MEMORY = "a server that stops abruptly may lose messages not yet written or copied elsewhere"
_DISK = "what was sent survives a power cut of the server, not the loss of its disk nor, for sure, a failover"
_REPLICATED = "what was sent survives the server if a replica that has it takes over, not a power cut of all"
_BOTH = "what was sent survives a power cut, and the server if a replica that has it takes over"


def describe_assurance(
    levels: Mapping[Durability, Sequence[str]],
    *,
    offers: Sequence[Durability] = (),
    obstacles: Mapping[Durability, str] | None = None,
) -> list[str]:
    """One line a level: what it covers, and how it stands with the server at hand.

    `levels` names the queues that ask for a level themselves; `offers` are those the server could give,
    `obstacles` says for a level why the server cannot.
    """
    return [
        _describe(level, queues, offers, (obstacles or {}).get(level)) for level, queues in levels.items()
    ]


def _describe(
    level: Durability, queues: Sequence[str], offers: Sequence[Durability], obstacle: str | None
) -> str:
    shown = ", ".join(queues[:_MOST_NAMES]) + (", …" if len(queues) > _MOST_NAMES else "")
    line = f"Durability {level}{f' ({shown})' if queues else ''}: {_cover(level)}."
    if obstacle is not None:
        return f"{line} This server cannot give it now: {obstacle}."
    if level == MEMORY and offers:
        return f"{line} This server could give {' or '.join(map(str, offers))}."
    return line


def _cover(level: Durability) -> str:
    if level.replicas:
        return _BOTH if level.disk else _REPLICATED
    return _DISK if level.disk else _MEMORY
