"""How long to wait before the next delivery. A pure function: the dice are passed in."""

from __future__ import annotations

from leanmq_topology.topology.model import Backoff, Jitter, Retry


def backoff_ms(retry: Retry, attempt: int, chance: float) -> int:
    """Milliseconds to wait after failed run number `attempt` (1 is the first).

    `chance` lies in [0, 1). With full jitter the wait is spread evenly from 0 to the computed one, so that
    messages which failed together do not come back together. `steps` are used as written, the last one again
    and again.
    """
    if retry.steps_ms:
        return retry.steps_ms[min(attempt, len(retry.steps_ms)) - 1]
    wait_ms = min(_formula_ms(retry, attempt), retry.max_delay_ms)
    return int(wait_ms * chance) if retry.jitter is Jitter.FULL else wait_ms


def _formula_ms(retry: Retry, attempt: int) -> int:
    if retry.backoff is Backoff.FIXED:
        return retry.delay_ms
    # Integers do not overflow, but 2**1000 is no wait anybody meant.
    return retry.delay_ms << min(attempt - 1, 62)
