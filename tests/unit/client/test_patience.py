"""When a flush is sent again."""

from __future__ import annotations

import pytest

from leanmq_topology.client.patience import (
    LONGEST_S,
    LONGEST_WAIT_S,
    Patience,
    mark_unknown,
    wait_before_resend,
)
from leanmq_topology.errors import (
    BrokerError,
    BrokerFullError,
    BrokerRefusedError,
    BrokerUnavailableError,
    TopologyNotAppliedError,
)


def test_waits_grow_and_stay_below_their_cap():
    away = BrokerUnavailableError("away")
    waits = [wait_before_resend(away, tries=n, elapsed_s=0, chance=0.999999) or 0 for n in range(50)]
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(0.05, rel=0.01)
    assert waits[-1] <= LONGEST_WAIT_S


def test_patience_ends():
    assert wait_before_resend(BrokerUnavailableError("away"), tries=9, elapsed_s=LONGEST_S, chance=0) is None


@pytest.mark.parametrize(
    "failure",
    [
        BrokerFullError("full"),
        BrokerRefusedError("no"),
        BrokerError("?"),
        TopologyNotAppliedError([], namespace="n"),
        ValueError("ours"),
    ],
)
def test_what_waiting_does_not_mend_is_told_at_once(failure: Exception):
    assert wait_before_resend(failure, tries=0, elapsed_s=0, chance=0) is None


def test_once_an_answer_was_lost_the_outcome_stays_unknown():
    assert mark_unknown(BrokerUnavailableError("refused"), True).unknown  # type: ignore[attr-defined]
    assert not mark_unknown(BrokerUnavailableError("refused"), False).unknown  # type: ignore[attr-defined]


def test_a_user_may_say_how_often_and_how_soon():
    away = BrokerUnavailableError("away")
    patience = Patience(most_tries=2, first_wait_s=1)
    waits = [
        wait_before_resend(away, tries=tries, elapsed_s=0, chance=0, patience=patience) for tries in range(3)
    ]
    assert waits == [0.5, 1.0, None]
