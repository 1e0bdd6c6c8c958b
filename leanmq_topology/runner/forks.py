"""A handler that forks is in two processes at once, and only one of them is the worker.

The copy may do what it likes and end. If it comes back from the handler, it must not go on as a second worker
on the same connections: it is ended there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

copied = False
"""This process is a copy of a worker."""


def guard(loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
    """For the process of a worker: a copy of it can neither turn this loop nor keep what `leave` closes."""
    selector: Any = getattr(loop, "_selector", None)

    def cut_off() -> None:
        global copied
        copied = True
        with contextlib.suppress(Exception):
            if selector is not None:
                selector.close()  # its own descriptor only; the worker's goes on
            leave()

    os.register_at_fork(after_in_child=cut_off)


def end_copy() -> None:
    """Called where a handler came back."""
    os._exit(1)
