"""The `time` header: RFC 3339 in UTC with milliseconds."""

from __future__ import annotations

import time

_cached = (-1, "")
"""Second and its text; replaced as a whole, so that threads never see half of it."""


def format_time(now_ms: int) -> str:
    """`2026-11-22T05:30:00.123Z`. The part up to the second is kept, since most sends share it."""
    global _cached
    second, rest = divmod(now_ms, 1000)
    cached = _cached
    if cached[0] != second:
        cached = _cached = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{cached[1]}.{rest:03d}Z"
