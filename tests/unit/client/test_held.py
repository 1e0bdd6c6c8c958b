"""A message that a program settles by its id: held for an hour without anybody keeping an object of it."""

from __future__ import annotations

import time

import pytest

from leanmq_topology.client.consuming import held as held_module
from leanmq_topology.client.consuming.held import Held
from leanmq_topology.messages.envelope import Delivered, Envelope


@pytest.fixture
def held() -> Held:
    return Held(Delivered("work", "1-1", Envelope("m", "", b"{}")), time.monotonic() + 30)


def test_what_is_kept_by_its_id_is_renewed_although_no_object_of_it_lives(held: Held):
    held.keep()
    assert held.handed_out
    assert held.renewable
    assert held.known


def test_after_an_hour_it_is_renewed_no_longer_and_may_be_handed_out_again(
    held: Held, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held_module, "LONGEST_RENEWAL_SECONDS", 0)
    held.keep()
    assert not held.renewable
    assert not held.known
