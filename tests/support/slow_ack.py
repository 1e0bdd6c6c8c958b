"""`leanmq run` whose acknowledgement stops for ever inside its script, or that dies when it has the answer.

`SLOW_ACK_AT` says where: a key of `PLACES`, or `answered`.
"""

from __future__ import annotations

import os
import signal
from typing import Any, Final

import msgspec

from leanmq_topology.brokers.redis import calls, settling
from leanmq_topology.cli.main import main

PLACE_VARIABLE: Final = "SLOW_ACK_AT"
ANSWERED: Final = "answered"
PLACES: Final = {
    "entry": b"local FIRST = 3\n",
    "before its first write": b"local done = redis.call('XACK',",
    "after XACK": b"local removed = redis.call('XDEL',",
    "after XDEL": b"note_acknowledged(meta,",
    "after its last write": b"return removed\n",
}
"""Place -> the words of `ack.lua` that the script never comes to."""
_FOR_EVER: Final = b"while true do end\n"

_read_lua = calls._read_lua


def read_slow(*path: str) -> bytes:
    """In the place of `calls._read_lua`."""
    text = _read_lua(*path)
    if path != ("ack.lua",):
        return text
    words = PLACES[os.environ[PLACE_VARIABLE]]
    before, found, after = text.rpartition(words)
    assert found, f"ack.lua has no {words!r} any more"
    return before + _FOR_EVER + found + after


def die(*_: Any) -> Any:
    """In the place of reading the answer: the script is through, and nobody will ever know."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    if os.environ[PLACE_VARIABLE] == ANSWERED:
        ack = settling.ack
        settling.ack = lambda *args: msgspec.structs.replace(ack(*args), read=die)  # type: ignore[assignment]
    else:
        calls._read_lua = read_slow
    main()
