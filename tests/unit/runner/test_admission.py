"""What is let through to a handler by the server's clock and the count of deliveries."""

from __future__ import annotations

import pytest

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.middleware.admission import check_admission
from leanmq_topology.topology.model import Queue

NOW_MS = 1_000


@pytest.mark.parametrize("expires_ms", [None, NOW_MS + 1, NOW_MS, NOW_MS - 1])
@pytest.mark.parametrize(("attempt", "delivered"), [(0, 1), (3, 2), (4, 2), (0, 6)])
def test_only_what_has_neither_expired_nor_used_up_its_deliveries_is_let_through(
    expires_ms: int | None, attempt: int, delivered: int
):
    admit = check_admission(Queue(name="billing", max_deliveries=5), lambda: NOW_MS)
    envelope = Envelope("m", "t", b"{}", {}, attempt, expires_ms)
    outcome = admit(Incoming(Delivered("billing", "1-0", envelope, delivered), 60.0))
    is_fresh = expires_ms is None or expires_ms > NOW_MS
    assert (outcome is None) is (is_fresh and attempt + delivered <= 5)
