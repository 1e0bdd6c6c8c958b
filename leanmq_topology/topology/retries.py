"""How long a message waits between deliveries, at the longest: what jitter may only shorten."""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat

from leanmq_topology.topology.model import Backoff, Retry


def longest_wait_ms(retry: Retry, failures: int) -> int:
    """The wait after the `failures`-th failed delivery (counted from 1)."""
    if retry.steps_ms:
        return retry.steps_ms[min(failures, len(retry.steps_ms)) - 1]
    if retry.backoff is Backoff.FIXED:
        return min(retry.delay_ms, retry.max_delay_ms)
    # Beyond 2^62 every delay of at least a millisecond is over any limit.
    return min(retry.delay_ms << min(failures - 1, 62), retry.max_delay_ms)


@lru_cache(maxsize=1024)
def longest_total_wait_ms(retry: Retry, max_deliveries: int) -> int:
    """All waits between the first and the last delivery together, running times left out."""
    return sum(map(longest_wait_ms, repeat(retry), range(1, max_deliveries)))
