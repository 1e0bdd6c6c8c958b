"""From a name to copies."""

from __future__ import annotations

from typing import Any

import pytest

from leanmq_topology.contracts.matching import compile_match
from leanmq_topology.contracts.schemas import compile_schema
from leanmq_topology.contracts.topics import compile_topics
from leanmq_topology.errors import InvalidMessageError, SettingError
from leanmq_topology.messages.routing import (
    MOST_TOPICS_KEPT,
    Contract,
    Destination,
    Subscriber,
    check_data,
    choose_type,
    route,
)

ORDER = Contract(
    "order.placed", 2, compile_schema({"type": "object", "properties": {"total": {"type": "number"}}})
)
QUOTE = Contract("quote.asked", 1, compile_schema(True))


def make_destination(*subscribers: Subscriber, contracts: tuple[Contract, ...] = ()) -> Destination:
    return Destination("there", "d", subscribers, {contract.type: contract for contract in contracts})


def copies(destination: Destination, data: Any, *, headers: dict[str, str] | None = None, size: int = 10):
    return route(destination, type="order.placed", headers=headers or {}, data=data, size=size)


def test_one_accepted_type_is_implied():
    assert choose_type(make_destination(contracts=(ORDER,)), None) == "order.placed"


def test_several_types_must_be_chosen_from_and_are_listed():
    with pytest.raises(InvalidMessageError, match=r"order\.placed, quote\.asked"):
        choose_type(make_destination(contracts=(QUOTE, ORDER)), None)


def test_a_type_that_is_not_accepted_is_refused():
    with pytest.raises(InvalidMessageError, match=r"takes only order\.placed"):
        choose_type(make_destination(contracts=(ORDER,)), "quote.asked")


def test_a_target_without_accepts_takes_any_type_or_none():
    assert choose_type(make_destination(), None) == ""
    assert choose_type(make_destination(), "whatever") == "whatever"


def test_data_that_breaks_its_schema_names_the_place():
    with pytest.raises(InvalidMessageError) as caught:
        check_data(ORDER, {"total": "much"})
    assert (caught.value.path, caught.value.type) == ("/total", "order.placed")


@pytest.mark.parametrize("data", [[], "text", 1, None, True])
def test_without_a_type_data_must_be_an_object(data: object):
    check_data(None, {})
    with pytest.raises(InvalidMessageError, match="JSON object"):
        check_data(None, data)


def test_every_subscriber_that_wants_it_gets_a_copy():
    destination = make_destination(
        Subscriber("all", 100),
        Subscriber("rich", 100, compile_match({"data.total": {"minimum": 50}})),
        Subscriber("urgent", 100, compile_match({"headers.urgent": "yes"})),
    )
    assert copies(destination, {"total": 60}) == ("all", "rich")
    assert copies(destination, {"total": 5}, headers={"urgent": "yes"}) == ("all", "urgent")


def test_an_event_nobody_wants_has_no_copies():
    destination = make_destination(Subscriber("rich", 100, compile_match({"data.total": 1})))
    assert copies(destination, {"total": 2}) == ()


def test_a_message_larger_than_a_queue_that_wants_it_takes_is_refused():
    destination = make_destination(
        Subscriber("small", 9, compile_match({"data.total": 1})), Subscriber("large", 100)
    )
    assert copies(destination, {"total": 2}) == ("large",)
    with pytest.raises(InvalidMessageError, match=r"10 bytes .* small takes \(9\)"):
        copies(destination, {"total": 1})


def test_a_destination_is_plain_when_each_of_its_queues_is():
    assert make_destination(Subscriber("a", 100, plain=True), Subscriber("b", 100, plain=True)).plain
    assert not make_destination(Subscriber("a", 100, plain=True), Subscriber("b", 100)).plain


# -- topics ---------------------------------------------------------------------------------------------


def topic_route(**topics: str) -> Destination:
    subscribers = [
        Subscriber(queue, 100, is_wanted=compile_topics((pattern,))) for queue, pattern in topics.items()
    ]
    return Destination("there", "d", tuple(subscribers), by_topic=True)


def queues_for(destination: Destination, topic: str | None, type: str = "") -> list[str]:
    return [one.queue for one in destination.narrow(topic, type).subscribers]


def test_the_topic_chooses_the_queues_and_the_type_stands_in_for_it():
    destination = topic_route(users="user.*", critical="*.critical", all="#")
    assert queues_for(destination, "user.critical") == ["users", "critical", "all"]
    assert queues_for(destination, "disk.critical", "user.created") == ["critical", "all"]
    assert queues_for(destination, None, "user.created") == ["users", "all"]
    assert queues_for(destination, None) == ["all"]


def test_a_match_is_asked_once_the_topic_fits():
    rich = Subscriber("rich", 100, compile_match({"data.total": 1}), is_wanted=compile_topics(("order.*",)))
    destination = Destination("there", "d", (rich,), by_topic=True)
    assert copies(destination.narrow("order.new", ""), {"total": 1}) == ("rich",)
    assert copies(destination.narrow("order.new", ""), {"total": 2}) == ()
    assert copies(destination.narrow("other", ""), {"total": 1}) == ()


def test_topics_without_end_do_not_fill_the_memory():
    destination = topic_route(all="#")
    for n in range(MOST_TOPICS_KEPT + 5):
        destination.narrow(f"order.{n}", "")
    assert len(destination._narrowed) <= MOST_TOPICS_KEPT


def test_a_topic_for_a_target_that_has_none_is_refused_with_a_hint():
    with pytest.raises(SettingError) as caught:
        make_destination(Subscriber("all", 100)).narrow("a.b", "")
    assert "there is not a topic route" in str(caught.value)
    assert "--topic" in (caught.value.hint or "")
