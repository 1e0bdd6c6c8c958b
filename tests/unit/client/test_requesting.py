"""What both colours of client know of requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from leanmq_topology.brokers.protocol import Arrived, Reply
from leanmq_topology.client import requesting
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.requesting import (
    LIFETIME_MS,
    RENEW_SECONDS,
    TRIM_AFTER,
    Mailbox,
    Request,
    choose_timeout_ms,
    foresee_timeout_ms,
    read_reply,
    write_request,
)
from leanmq_topology.contracts.schemas import compile_schema
from leanmq_topology.errors import InvalidMessageError, LeanMQError, RemoteError, SettingError
from leanmq_topology.messages.outcome import Failure
from leanmq_topology.messages.routing import Contract, Destination
from leanmq_topology.topology.durability import MEMORY, Durability
from leanmq_topology.topology.model import MessageType, Queue, RequestRoute
from leanmq_topology.topology.specs import address_digests, digest, resource_specs
from tests.support.factories import make_topology

ANSWER = Contract("answer", 1, compile_schema({"type": "object", "required": ["n"]}))
ASK = Destination("ask", "d", (), reply=ANSWER, timeout_ms=5000)
TOPOLOGY = make_topology(
    "shop",
    Queue(name="work", accepts=("asked",)),
    messages=(MessageType(name="asked", schema={"type": "object", "required": ["n"]}),),
    routes=(RequestRoute(name="ask", request="asked", reply="asked", queue="work"),),
)
VIEW = AppliedView(make_topology("shop"))


def box() -> Mailbox[str]:
    return Mailbox(1)


def arrived(request_id: str, place: str = "1-0") -> Arrived:
    return Arrived(place, Reply("mine", request_id))


def test_each_reply_goes_to_who_waits_for_it_whatever_the_order():
    mailbox = box()
    for name in ("a", "b", "c"):
        mailbox.add(name, f"waiter of {name}")
    found = mailbox.take([arrived("c", "1-0"), arrived("a", "2-0")])
    assert [(waiter, reply.request_id) for waiter, reply in found] == [
        ("waiter of c", "c"),
        ("waiter of a", "a"),
    ]
    assert (list(mailbox.waiting), mailbox.read_to) == (["b"], "2-0")


def test_a_reply_that_nobody_waits_for_is_late_or_the_second_of_its_kind():
    mailbox = box()
    mailbox.add("a", "me")
    assert len(mailbox.take([arrived("a"), arrived("a"), arrived("gone")])) == 1
    assert (mailbox.counts.duplicate, mailbox.counts.late) == (1, 1)


def test_only_so_many_answered_requests_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(requesting, "MOST_REMEMBERED", 2)
    mailbox = box()
    for name in ("a", "b", "c"):
        mailbox.add(name, name)
    mailbox.take([arrived(name) for name in ("a", "b", "c", "a", "c")])
    assert (mailbox.counts.late, mailbox.counts.duplicate) == (1, 1)


def test_two_requests_of_one_id_and_too_many_at_once_are_refused(monkeypatch: pytest.MonkeyPatch):
    mailbox = box()
    mailbox.add("a", "me")
    with pytest.raises(SettingError, match="under way"):
        mailbox.add("a", "you")
    monkeypatch.setattr(requesting, "MOST_WAITING", 1)
    with pytest.raises(LeanMQError, match="wait for their replies"):
        mailbox.add("b", "you")


def test_an_inbox_is_renewed_in_good_time_and_told_what_was_read():
    mailbox = box()
    assert mailbox.needs_keeping(0.0)
    mailbox.note_kept(100.0)
    assert not mailbox.needs_keeping(100.0 + RENEW_SECONDS)
    assert mailbox.needs_keeping(100.1 + RENEW_SECONDS)
    assert RENEW_SECONDS * 1000 * 2 < LIFETIME_MS, "one renewal may fail"
    mailbox.take([arrived("gone") for _ in range(TRIM_AFTER)])
    assert mailbox.needs_keeping(100.0)


def test_an_inbox_that_is_gone_is_followed_by_one_of_another_name():
    mailbox = box()
    mailbox.note_kept(1.0)
    mailbox.take([arrived("x", "9-0")])
    before = mailbox.name
    mailbox.move()
    assert mailbox.name != before
    assert (mailbox.read_to, mailbox.is_open) == ("0", False)


@pytest.mark.parametrize(("given", "wanted"), [(None, 5000), (1.5, 1500), ("2s", 2000)])
def test_the_caller_may_say_how_long_to_wait_else_the_route_does(given: Any, wanted: int):
    assert choose_timeout_ms(ASK, given) == wanted


@pytest.mark.parametrize("given", [0, -1, "soon", float("nan"), True, "2d"])
def test_a_time_that_is_none_is_refused(given: Any):
    with pytest.raises(SettingError, match="timeout"):
        choose_timeout_ms(ASK, given)


def test_a_name_that_nobody_answers_at_is_refused():
    with pytest.raises(SettingError, match="nobody answers at 'work'"):
        choose_timeout_ms(Destination("work", "d", ()), None)


def test_a_request_says_where_its_reply_goes_and_expires_with_its_callers_patience():
    request = write_request(
        ASK,
        {"n": 1},
        VIEW,
        inbox="mine",
        timeout_ms=250,
        id="r-1",
        headers={"color": "red"},
        correlation_id="c-1",
        now_ms=0,
    )
    assert dict(request.options.headers) == {
        "color": "red",
        "correlationid": "c-1",
        "replyto": "mine",
        "leanmqroute": "ask",
    }
    assert (request.id, request.target, request.options.ttl_ms) == ("r-1", "ask", 250)


def test_nobody_may_set_the_headers_of_a_request():
    for name in ("replyto", "leanmqroute"):
        with pytest.raises(InvalidMessageError):
            write_request(
                *(ASK, {}, VIEW),
                inbox="i",
                timeout_ms=1,
                id=None,
                headers={name: "x"},
                correlation_id=None,
                now_ms=0,
            )


def test_a_reply_is_data_a_failure_or_a_breach_of_its_schema():
    assert read_reply(ASK, Reply("i", "r", data=b'{"n": 1}')) == {"n": 1}
    with pytest.raises(InvalidMessageError):
        read_reply(ASK, Reply("i", "r", data=b"{}"))
    with pytest.raises(InvalidMessageError):
        read_reply(ASK, Reply("i", "r", data=b"no JSON"))
    with pytest.raises(RemoteError) as caught:
        read_reply(ASK, Reply("i", "r", failure=Failure("KeyError", "'sku'")))
    assert (caught.value.type, str(caught.value), caught.value.message_id) == ("KeyError", "'sku'", "r")
    assert caught.value.data is None
    assert str(RemoteError("KeyError", "", route="ask", message_id="r")) == "KeyError"


def test_a_declined_request_is_raised_with_data_that_is_held_against_the_schema_of_its_error():
    refused = Contract("refused", 1, compile_schema({"type": "object", "required": ["why"]}))
    ask = replace(ASK, error=refused)
    told = Failure("refused", "not today")
    with pytest.raises(RemoteError) as caught:
        read_reply(ask, Reply("i", "r", "refused", b'{"why": ["late"]}', told))
    assert (caught.value.type, caught.value.text) == ("refused", "not today")
    assert caught.value.data == {"why": ["late"]}
    assert caught.value.message == 'refused: not today {"why": ["late"]}'
    with pytest.raises(InvalidMessageError, match="why"):
        read_reply(ask, Reply("i", "r", "refused", b"{}", told))
    with pytest.raises(RemoteError):  # the route declares it no longer
        read_reply(ASK, Reply("i", "r", "refused", b"{}", told))


def test_how_long_a_request_may_take_is_foreseen_from_the_call_or_from_the_file():
    topology = make_topology(
        "shop", routes=(RequestRoute(name="ask", request="a", reply="b", queue="q", timeout_ms=700),)
    )
    assert foresee_timeout_ms(topology, "ask", "2s") == 2000
    assert foresee_timeout_ms(topology, "ask", None) == 700
    assert foresee_timeout_ms(topology, "not declared here", None) is None


def test_requests_that_ask_alike_share_what_follows_from_it_and_others_do_not():
    view = AppliedView(make_topology("shop"))
    destination = Destination("ask", "d", (), {"answer": ANSWER}, reply=ANSWER)

    def ask(**asked: Any) -> Request:
        plain = {"inbox": "i", "timeout_ms": 9, "id": None, "headers": None, "correlation_id": None}
        return write_request(destination, {"n": 1}, view, now_ms=0, **{**plain, **asked})

    first = ask().find_form(destination, view)
    assert ask().find_form(destination, view) is first
    for other in ({"inbox": "j"}, {"timeout_ms": 8}, {"id": "r-1"}, {"headers": {"a": "b"}}):
        request = ask(**other)
        form = request.find_form(destination, view)
        assert form is not first
        assert form.options is request.options
    assert ask().find_form(replace(destination, digest="e"), view).destination.digest == "e"


def learn(view: AppliedView, route: str) -> Destination:
    specs = resource_specs(TOPOLOGY)
    fields: dict[str, Any] = {
        address: {"hash": digest(spec), "spec": spec} for address, spec in specs.items()
    }
    return view.learn(route, fields | {f"@{key}": value for key, value in address_digests(specs).items()})


def ask_plainly(view: AppliedView, destination: Destination, data: Any, **asked: Any) -> Request:
    plain = {"inbox": "i", "timeout_ms": 700, "id": None, "headers": None, "correlation_id": None}
    return write_request(destination, data, view, now_ms=1_234_567, **{**plain, **asked})


def test_a_request_that_asks_plainly_is_addressed_at_once_as_it_would_be_later():
    view = AppliedView(TOPOLOGY)
    destination = learn(view, "ask")
    request = ask_plainly(view, destination, {"n": 1})
    [outgoing] = request.address(destination, view)
    [anew] = request.address(replace(destination, digest="another"), view)
    assert anew.digest == "another"
    assert structs.replace(anew, digest=outgoing.digest) == outgoing
    assert (outgoing.ttl_ms, outgoing.envelope.id) == (700, request.id)
    assert (outgoing.envelope.headers["replyto"], outgoing.queues) == ("i", ("work",))


def test_a_request_with_invalid_data_is_refused_however_it_asks():
    view = AppliedView(TOPOLOGY)
    destination = learn(view, "ask")
    for options in ({}, {"id": "r-1"}):
        with pytest.raises(InvalidMessageError, match="n"):
            ask_plainly(view, destination, {"m": 1}, **options).address(destination, view)


def test_what_confirms_a_request_is_its_reply_however_durable_its_queue_is():
    safe = replace(ASK, durability=Durability(disk=True, replicas=2))
    request = write_request(
        safe, {}, VIEW, inbox="i", timeout_ms=5, id=None, headers=None, correlation_id=None, now_ms=1
    )
    assert request.level(safe) == MEMORY
