"""What a caller says when it receives, checked."""

from __future__ import annotations

import math
from typing import Any, Final

from leanmq_topology.client.options import read_duration
from leanmq_topology.errors import SettingError
from leanmq_topology.topology.model import DAY_MS, HOUR_MS

MOST_AT_ONCE: Final = 1000
LONGEST_DELAY_MS: Final = 365 * DAY_MS
LONGEST_EXTENSION_MS: Final = 12 * HOUR_MS


def check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_AT_ONCE:
        raise SettingError(name, f"must be a whole number from 1 to {MOST_AT_ONCE}, not {value!r}")
    return value


def check_wait(value: Any) -> float:
    """Seconds; 0 does not wait."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise SettingError("wait", f"must be a number of seconds from 0 on, not {value!r}")
    return float(value)


def read_delay_ms(value: float | str | None) -> int | None:
    return None if value is None else read_duration("delay", value, LONGEST_DELAY_MS)


def read_extension_seconds(value: float | str) -> float:
    return read_duration("seconds", value, LONGEST_EXTENSION_MS) / 1000
