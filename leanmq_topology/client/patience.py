"""How long a sender goes on after a failure. Pure.

A flush may be sent again because its producer's marker makes that harmless: the server remembers the last one
for ten minutes, far longer than anybody here goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from leanmq_topology.errors import BrokerUnavailableError, LeanMQError

LONGEST_S: Final = 30.0
FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How a sender goes on, where its user said so."""

    most_tries: int | None = None
    """How often something is tried once more; None: for `LONGEST_S`."""
    first_wait_s: float | None = None
    """Waits double from here; None: from `FIRST_WAIT_S`."""
    longest_s: float | None = None
    """When to give up at the latest; None: after `LONGEST_S`."""


PATIENT: Final = Patience()


def wait_before_resend(
    failure: Exception, *, tries: int, elapsed_s: float, chance: float, patience: Patience = PATIENT
) -> float | None:
    """Seconds to wait before the same flush is sent once more; None: give up and tell the caller.

    Only a server that cannot be reached or is not ready is worth waiting for. `chance` in [0, 1) spreads the
    waits of many senders.
    """
    if not isinstance(failure, BrokerUnavailableError):
        return None
    if patience.most_tries is not None and tries >= patience.most_tries:
        return None
    first_wait_s = FIRST_WAIT_S if patience.first_wait_s is None else patience.first_wait_s
    wait_s = min(LONGEST_WAIT_S, first_wait_s * 2 ** min(tries, 10)) * (0.5 + chance / 2)
    longest_s = LONGEST_S if patience.longest_s is None else patience.longest_s
    return wait_s if elapsed_s + wait_s <= longest_s else None


def mark_unknown(failure: LeanMQError, unknown: bool) -> LeanMQError:
    """Once an answer was lost, the flush may have been stored, whatever later attempts met."""
    if isinstance(failure, BrokerUnavailableError):
        failure.unknown = unknown
    return failure
