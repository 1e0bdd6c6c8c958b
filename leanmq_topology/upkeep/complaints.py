"""What fails again and again beside the work is said again and again, but not each time."""

from __future__ import annotations

import logging
import time
from typing import Final

from leanmq_topology.errors import LeanMQError

REPEATED_SECONDS: Final = 60.0


class Complaints:
    """Says what failed in a part of upkeep: at once if it is new there, the same once a minute at most."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._said: dict[str, tuple[str, float]] = {}
        """What failed last in each part, and when that was logged."""

    def say(self, part: str, failure: Exception) -> None:
        """An error that nobody foresaw is told with its traceback."""
        known = isinstance(failure, LeanMQError)
        text = str(failure) if known else repr(failure)
        now, (said, said_at) = time.monotonic(), self._said.get(part, ("", 0.0))
        if said == text and now - said_at < REPEATED_SECONDS:
            return
        self._said[part] = (text, now)
        self._logger.error(
            "upkeep failed (%s): %s",
            part,
            text,
            extra={"event": "upkeep_failed"},
            exc_info=None if known else failure,
        )
