"""How long to wait before the next delivery. A pure function: the dice are passed in."""

from __future__ import annotations

from leanmq_topology.topology.model import Jitter, Retry
from leanmq_topology.topology.retries import longest_wait_ms


def backoff_ms(retry: Retry, attempt: int, chance: float) -> int:
    """Milliseconds to wait after failed run number `attempt` (1 is the first).

    `chance` lies in [0, 1). With full jitter the wait is spread evenly from 0 to the computed one, so that
    messages which failed together do not come back together. `steps` are used as written, the last one again
    and again.
    """
    wait_ms = longest_wait_ms(retry, attempt)
    is_spread = retry.jitter is Jitter.FULL and not retry.steps_ms
    return int(wait_ms * chance) if is_spread else wait_ms
