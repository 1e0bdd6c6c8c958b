"""Which of our child processes ended."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

MOST_REAPED = 1000
"""Dead processes looked at in one turn, where they need not be ours."""


def list_dead(pids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Those of our children that ended, with what `waitpid` says of them.

    As the first process of a container we get the orphans of the whole container, too, and reap them.
    """
    for pid in [-1] * MOST_REAPED if os.getpid() == 1 else pids:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            if pid == -1:
                return
            yield pid, 0  # somebody else waited for it
            continue
        if found:
            yield found, status
        elif pid == -1:
            return
