"""Time is passed in, so that a test can hold it still."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Milliseconds since 1970-01-01 UTC."""


def system_clock() -> int:
    """This machine's wall clock in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000
