"""Lines of a file or a pipe, and when no more come for now: what came need not wait for the rest."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator
from typing import BinaryIO, Final

PAUSE: Final = b""
"""No line; it says that no more have come for now."""
LONGEST_WAIT_S: Final = 0.1
"""What a line waits for others where they come slowly."""
_CHUNK: Final = 65536


def read_arriving(source: BinaryIO) -> Iterator[bytes]:
    """Each line with its end, and `PAUSE` once lines have waited `LONGEST_WAIT_S` and no others are there.

    A file is there as a whole and has no pauses.
    """
    descriptor = _find_descriptor(source)
    return iter(source) if descriptor is None else _read_descriptor(descriptor)


def _read_descriptor(descriptor: int) -> Iterator[bytes]:
    rest = b""
    due: float | None = None  # when the first line since the last pause has waited long enough
    while True:
        left = None if due is None else max(due - time.monotonic(), 0)
        if not select.select([descriptor], [], [], left)[0]:
            due = None
            yield PAUSE
            continue
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if lines and due is None:
            due = time.monotonic() + LONGEST_WAIT_S
    if rest:
        yield rest


def _find_descriptor(source: BinaryIO) -> int | None:
    """Of what may keep its reader waiting; None for a file, and for what has no descriptor."""
    try:
        found = source.fileno()
        return None if stat.S_ISREG(os.fstat(found).st_mode) else found
    except (OSError, ValueError):
        return None
