"""The commands of a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Verb:
    name: str
    usage: str
    help: str
    sessions: frozenset[str]
    writes: bool = False
    """It changes the server, or what others get."""


def _verb(usage: str, help: str, *sessions: str, writes: bool = False) -> Verb:
    return Verb(usage.partition(" ")[0], usage, help, frozenset({"shell", *sessions}), writes)


VERBS: Final[dict[str, Verb]] = {
    verb.name: verb
    for verb in (
        _verb("send TARGET JSON [OPTIONS]", "send a message, as `leanmq send`", writes=True),
        _verb("request ROUTE JSON", "ask and print the reply, as `leanmq request`", writes=True),
        _verb("pub CHANNEL JSON", "publish on an ephemeral channel", "pub", writes=True),
        _verb("batch [CHANNEL [COUNT]]", "publish test messages (the examples)", "pub", writes=True),
        _verb(
            "periodic CHANNEL INTERVAL COUNT [JSON]",
            "publish again and again, in the background",
            "pub",
            writes=True,
        ),
        _verb("sub CHANNEL…", "listen to channels, or patterns of them", "sub"),
        _verb("unsub CHANNEL…", "listen to these no longer", "sub"),
        _verb("listen", "print what is heard (sub begins it)", "sub"),
        _verb("stop", "stop printing, and what is periodic", "sub", "pub"),
        _verb("inject CHANNEL JSON", "pretend a message was heard; nothing is sent", "sub"),
        _verb("status [OPTIONS]", "queues, counters, workers, as `leanmq status`"),
        _verb("peek QUEUE [OPTIONS]", "look at messages, as `leanmq peek`"),
        _verb("dlq list|show|stats|replay|discard …", "dead letters, as `leanmq dlq`"),
        _verb("stats", "what was published and heard so far", "sub", "pub"),
        _verb("help", "this list", "sub", "pub"),
        _verb("exit", "end (so does the end of the input)", "sub", "pub"),
    )
}

READ_ONLY_DLQ: Final = frozenset({"list", "show", "stats", "export"})


def verbs_of(session: str, known: frozenset[str]) -> dict[str, Verb]:
    """Those of a session; `known` are the commands of `leanmq`, on which some of them stand."""
    delegated = DELEGATED - known
    return {name: verb for name, verb in VERBS.items() if session in verb.sessions and name not in delegated}


DELEGATED: Final = frozenset({"send", "request", "status", "peek", "dlq"})
"""Carried out by the command of that name."""
