"""What wakes a worker at rest does it on the same beats."""

from __future__ import annotations

import pytest

from leanmq_topology.runner.pulse import BEAT_SECONDS, Pulse

BEGUN = 1000.3
ASKED_AT = [BEGUN + seconds for seconds in (0.0, 0.001, 0.5, BEAT_SECONDS - 0.001, 7.7, 86_400.02)]


@pytest.mark.parametrize("longest_seconds", [BEAT_SECONDS, 1.0, 2.9])
@pytest.mark.parametrize("now", ASKED_AT)
def test_a_pause_ends_on_a_beat_and_is_no_longer_than_it_may_be(now: float, longest_seconds: float):
    pause = Pulse(BEGUN).pause(now, longest_seconds)

    beats = (now + pause - BEGUN) / BEAT_SECONDS
    assert beats == pytest.approx(round(beats), abs=1e-6)
    assert 0.0 < pause <= longest_seconds + 1e-9
    assert pause > longest_seconds - BEAT_SECONDS - 1e-9


def test_a_pause_in_which_no_beat_falls_is_as_long_as_it_may_be():
    assert Pulse(BEGUN).pause(BEGUN + 0.1, 0.25) == 0.25
