"""From data to what leaves the process, without a server."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from msgspec import structs

from leanmq_topology.brokers.protocol import Duplicate, Full, Stale, Stored
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.handling import being_handled
from leanmq_topology.client.options import PLAIN, read_options
from leanmq_topology.client.sender import Batch, Form, write_batch, write_single
from leanmq_topology.errors import (
    BatchTooLargeError,
    InvalidMessageError,
    QueueFullError,
    TopologyNotAppliedError,
)
from leanmq_topology.messages.envelope import Envelope, Once
from leanmq_topology.messages.routing import Destination
from leanmq_topology.topology.model import Deduplication, FanoutRoute, Queue, Target
from leanmq_topology.topology.specs import address_digests, digest, resource_specs
from tests.support.factories import make_topology

TEN_MINUTES_MS = 600_000
TOPOLOGY = make_topology(
    "shop",
    Queue(name="billing"),
    Queue(name="emails", deduplication=Deduplication(window_ms=5000, key="/order_id")),
    Queue(name="small", max_message_size=1024),
    routes=(
        FanoutRoute(name="events", to=(Target(queue="billing"), Target(queue="emails"))),
        FanoutRoute(
            name="choosy",
            to=(Target(queue="billing"), Target(queue="emails", match={"data.notify": True})),
        ),
    ),
)


@pytest.fixture
def view() -> AppliedView:
    return AppliedView(TOPOLOGY)


def learn(view: AppliedView, name: str) -> Destination:
    specs = resource_specs(TOPOLOGY)
    fields: dict[str, Any] = {
        address: {"hash": digest(spec), "spec": spec} for address, spec in specs.items()
    }
    return view.learn(name, fields | {f"@{key}": value for key, value in address_digests(specs).items()})


def write(target: str, *items: Any, **options: Any) -> Batch:
    return write_batch(target, items, read_options(**options), now_ms=0)


def marks(view: AppliedView, target: str, data: Any, **options: Any) -> tuple[Once, ...]:
    [outgoing] = write(target, data, **options).address(learn(view, target), view)
    return outgoing.once


# -- duplicates -----------------------------------------------------------------------------------------


def test_a_plain_send_is_never_a_duplicate(view: AppliedView):
    assert marks(view, "billing", {}) == ()


def test_an_id_of_ones_own_is_remembered_where_it_was_sent_to(view: AppliedView):
    assert marks(view, "billing", {}, id="m") == (Once(b"id:m", TEN_MINUTES_MS),)


def test_a_queue_that_declares_it_decides_alone_for_its_own_name(view: AppliedView):
    by_key = Once(b'key:"A"', 5000, "emails")
    assert marks(view, "emails", {"order_id": "A"}) == (by_key,)
    assert marks(view, "emails", {"order_id": "A"}, id="m") == (by_key,)
    assert marks(view, "emails", {}, id="m") == (Once(b"id:m", 5000, "emails"),)


def test_a_route_leaves_the_choice_to_each_queue_and_remembers_named_ids_itself(view: AppliedView):
    by_key = Once(b'key:"A"', 5000, "emails")
    assert marks(view, "events", {"order_id": "A"}) == (by_key,)
    assert marks(view, "events", {"order_id": "A"}, id="m") == (Once(b"id:m", TEN_MINUTES_MS), by_key)


def test_a_queue_that_gets_no_copy_remembers_nothing(view: AppliedView):
    assert marks(view, "choosy", {"order_id": "A", "notify": False}) == ()
    assert len(marks(view, "choosy", {"order_id": "A", "notify": True})) == 1


def test_a_duplicate_yields_the_first_id(view: AppliedView):
    batch = write("billing", {}, {})
    [first, _] = [draft.id for draft in batch.drafts]
    assert batch.read([Stored(first, 1), Duplicate("old", False)], view) == [first, "old"]


@pytest.mark.parametrize("result", [Duplicate("old", True), Stored("old", 1, differs=True)], ids=str)
def test_other_data_under_the_same_identity_is_warned_of_once_a_target(
    view: AppliedView, result: Any, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert write("billing", {}).read([result], view) == ["old"]
        write("emails", {}).read([Duplicate("other", False)], view)
    [record] = caplog.records
    assert "old" in record.message
    assert "'billing'" in record.message


# -- answers --------------------------------------------------------------------------------------------


def test_a_batch_is_addressed_anew_when_its_target_changed(view: AppliedView):
    learn(view, "billing")
    assert write("billing", {}).read([Stale("billing", "new")], view) is None
    assert view.find("billing") is None


def test_a_target_that_is_gone_or_full_is_named(view: AppliedView):
    with pytest.raises(TopologyNotAppliedError):
        write("billing", {}).read([Stale("billing", None)], view)
    with pytest.raises(QueueFullError) as caught:
        write("events", {}).read([Full("billing", 5)], view)
    assert caught.value.queue == "billing"


# -- bounds ---------------------------------------------------------------------------------------------


def test_every_copy_counts_towards_what_one_step_carries(view: AppliedView):
    destination = learn(view, "events")
    assert len(write("events", *[{}] * 500).address(destination, view)) == 500
    with pytest.raises(BatchTooLargeError) as caught:
        write("events", *[{}] * 501).address(destination, view)
    assert (caught.value.copies, caught.value.size) == (1002, 2004)


def test_a_message_too_large_for_its_queue_is_refused(view: AppliedView):
    destination = learn(view, "small")
    [fits] = write("small", {"x": "a" * 1016}).address(destination, view)
    assert len(fits.envelope.data) == 1024
    with pytest.raises(InvalidMessageError, match="1025 bytes"):
        write("small", {"x": "a" * 1017}).address(destination, view)


def test_what_is_wrong_in_a_batch_is_counted(view: AppliedView):
    learn(view, "small")
    with pytest.raises(InvalidMessageError) as caught:
        write("billing", {}, {}, {"x": float("nan")})
    assert caught.value.index == 2
    destination = learn(view, "small")
    with pytest.raises(InvalidMessageError) as caught:
        write("small", {}, {"x": "a" * 2000}, {}).address(destination, view)
    assert caught.value.index == 1


# -- a send on its own -----------------------------------------------------------------------------------


def form_of(view: AppliedView, target: str) -> Form:
    destination = learn(view, target)
    return write(target, {}).find_form(destination, view)


@pytest.mark.parametrize("data", [{}, {"order_id": "A-1", "total": 99.5, "lines": [1, (2, 3)]}])
def test_a_lone_send_is_what_a_batch_makes_of_one_message(view: AppliedView, data: Any):
    lone = form_of(view, "billing").write_lone(data, now_ms=1_234_567)
    [outgoing] = write_single("billing", data, PLAIN, now_ms=1_234_567).address(learn(view, "billing"), view)
    assert lone is not None
    assert lone.envelope.id < outgoing.envelope.id
    assert structs.replace(lone, envelope=structs.replace(lone.envelope, id=outgoing.envelope.id)) == outgoing


@pytest.mark.parametrize("data", [{"total": float("nan")}, "no object", None, {1: 2}])
def test_a_lone_send_refuses_what_a_batch_refuses(view: AppliedView, data: Any):
    with pytest.raises(InvalidMessageError) as lone:
        form_of(view, "billing").write_lone(data, now_ms=0)
    with pytest.raises(InvalidMessageError) as batched:
        write("billing", data).address(learn(view, "billing"), view)
    assert (str(lone.value), lone.value.index) == (str(batched.value), 0)


@pytest.mark.parametrize("target", ["emails", "events", "choosy"])
def test_what_is_remembered_or_matched_takes_the_long_way(view: AppliedView, target: str):
    assert form_of(view, target).write_lone({"order_id": "A-1"}, now_ms=0) is None


def test_what_is_too_large_takes_the_long_way_which_refuses_it(view: AppliedView):
    form = form_of(view, "small")
    assert form.write_lone({"text": "x" * 1000}, now_ms=0) is not None
    assert form.write_lone({"text": "x" * 1024}, now_ms=0) is None


def test_a_target_that_is_forgotten_or_learnt_anew_has_no_form_any_more(view: AppliedView):
    form_of(view, "billing")
    view.forget("billing")
    assert "billing" not in view.plain_forms
    form_of(view, "billing")
    learn(view, "billing")
    assert "billing" not in view.plain_forms


# -- what sends have in common --------------------------------------------------------------------------


def test_sends_that_add_only_headers_share_what_is_worked_out_for_all_and_keep_their_own(view: AppliedView):
    destination = learn(view, "billing")
    first, second, plain = (
        write("billing", {}, **options).address(destination, view)[0].envelope.headers
        for options in ({"correlation_id": "a"}, {"headers": {"tenant": "b"}}, {})
    )
    form = view.plain_forms["billing"]
    assert (first["correlationid"], second["tenant"]) == ("a", "b")
    assert set(first) - {"correlationid"} == set(second) - {"tenant"} == set(plain)
    write("billing", {}, headers={"tenant": "c"}).address(destination, view)
    assert view.plain_forms["billing"] is form


def test_sends_with_other_options_leave_the_common_form_alone(view: AppliedView):
    destination = learn(view, "billing")
    [delayed] = write("billing", {}, delay=5).address(destination, view)
    [plain] = write("billing", {}).address(destination, view)
    assert (delayed.delay_ms, plain.delay_ms) == (5000, None)


def test_what_is_sent_while_a_message_is_handled_shares_the_common_form(view: AppliedView):
    destination = learn(view, "billing")
    write("billing", {}).address(destination, view)
    form = view.plain_forms["billing"]
    token = being_handled.set(Envelope("cause", "t", b"{}"))
    try:
        batch = write("billing", {})
    finally:
        being_handled.reset(token)
    [outgoing] = batch.address(destination, view)
    assert outgoing.envelope.headers["causationid"] == "cause"
    assert batch.options.adds_only_headers
    assert view.plain_forms["billing"] is form
