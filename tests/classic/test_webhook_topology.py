"""Webhooks of a topology: paths are its queues and routes, with their schemas and limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import LeanMQWebhook
from leanmq_topology.exceptions import MessageError, QueueError, QueueNotFoundError
from tests.classic.conftest import Place, apply_topology
from tests.support.processes import wait_until


def write(place: Place) -> str:
    """Two kinds of orders; at most two of them wait, and each is tried twice."""
    return (
        f"broker: {{url: '{place.url}'}}\n"
        "messages:\n"
        "  order: {schema: {type: object, required: [id]}}\n"
        "  refund: {schema: {type: object, required: [of]}}\n"
        "queues:\n"
        "  orders:\n"
        "    accepts: [order, refund]\n"
        "    max_length: 2\n"
        "    max_deliveries: 2\n"
        "    retry: {backoff: fixed, delay: 100ms, jitter: none}\n"
        "  mails: {accepts: [order]}\n"
        "routes: {events: {type: fanout, accepts: [order], to: {orders: {}, mails: {}}}}\n"
    )


@pytest.fixture
def webhook(place: Place, tmp_path: Path) -> Iterator[LeanMQWebhook]:
    apply_topology(place, tmp_path, write(place))
    with LeanMQWebhook.from_topology(tmp_path / "topology.yaml") as opened:
        yield opened


def collect(webhook: LeanMQWebhook, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    webhook.get(path)(found.append)
    return found


def test_events_are_held_against_the_schemas_of_their_queue(webhook: LeanMQWebhook):
    found = collect(webhook, "/orders/")
    webhook.send("/orders", {"id": 1}, type="order")
    with pytest.raises(MessageError, match="of"):
        webhook.send("/orders", {"id": 2}, type="refund")
    with pytest.raises(MessageError, match="order, refund"):
        webhook.send("/orders", {"id": 3})
    assert webhook.process_messages() == 1
    assert [data["id"] for data in found] == [1]


def test_the_limits_of_a_queue_hold_for_its_path(webhook: LeanMQWebhook):
    for number in range(2):
        webhook.send("/orders", {"id": number}, type="order")
    with pytest.raises(QueueError, match="2"):
        webhook.send("/orders", {"id": 2}, type="order")


@pytest.mark.parametrize(("max_retries", "runs"), [(None, 2), (0, 1)])
def test_an_event_that_fails_is_tried_again_as_its_queue_declares_unless_told_otherwise(
    webhook: LeanMQWebhook, max_retries: int | None, runs: int
):
    webhook.max_retries = max_retries
    ran: list[object] = []

    @webhook.get("/orders")
    def fail(data: dict[str, Any]) -> None:
        ran.append(data["id"])
        raise ValueError("no stock")

    webhook.send("/orders", {"id": 1}, type="order")
    dead = webhook.mq.get_dead_letter_queue("orders")
    assert dead is not None
    wait_until(lambda: webhook.process_messages() or dead.get_messages(), "the dead letter")
    assert ran == [1] * runs
    [letter] = dead.get_messages()
    assert "Processing error: no stock" in letter.data["_failures"][-1]["reason"]


def test_an_event_sent_to_a_route_reaches_every_queue_behind_it(webhook: LeanMQWebhook):
    orders, mails = collect(webhook, "/orders"), collect(webhook, "/mails")
    webhook.send("/events", {"id": 1})
    assert webhook.process_messages() == 2
    assert orders[0]["id"] == mails[0]["id"] == 1
    with pytest.raises(QueueError, match="is a route") as raised:
        webhook.get("/events")
    assert raised.value.hint == "name one of the queues behind it: mails, orders"


def test_a_path_that_the_topology_does_not_name_has_a_pair_of_its_own(webhook: LeanMQWebhook):
    found = collect(webhook, "/orders/new")
    webhook.send("/orders/new", {"anything": True})
    assert webhook.process_messages() == 1
    assert found[0]["anything"]


def test_a_queue_that_was_never_applied_is_not_made_behind_the_topologys_back(place: Place, tmp_path: Path):
    (tmp_path / "topology.yaml").write_text(f"leanmq: 1\nname: {place.prefix[:-1]}\n{write(place)}")
    with LeanMQWebhook.from_topology(tmp_path / "topology.yaml") as webhook:
        for call in (lambda: webhook.get("/orders"), lambda: webhook.send("/orders", {"id": 1})):
            with pytest.raises(QueueNotFoundError, match="orders") as raised:
                call()
            assert "apply it" in str(raised.value.hint)
        assert webhook.mq.list_queues() == []
