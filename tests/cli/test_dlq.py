"""`leanmq dlq`, `peek`, `purge`, `pause` and `resume` as they are typed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.cli import approval
from leanmq_topology.messages.codec import FIELDS, decode_fields, encode_failure, encode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.operations.dead_letters import Pace
from tests.support.commands import Ended, leanmq_here
from tests.support.factories import applied_file, run
from tests.support.servers import Server

TOPOLOGY = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  order: {{schema: {{type: object}}}}
queues:
  billing: {{accepts: [order], max_length: 3}}
  emails: {{accepts: [order]}}
handlers:
  charge: {{queue: billing, call: "shop:charge"}}
  mail: {{queue: emails, call: "shop:mail"}}
"""
LONG_AGO_MS = 1_600_000_000_000
DECLINED, TIMED_OUT = Failure("CardDeclinedError", "card 42"), Failure("TimeoutError", "no answer")


@dataclass
class Shop:
    """A topology that is applied, and what lies in its queues."""

    file: Path
    namespace: str
    admin: BlockingRedisConnection

    @property
    def keys(self) -> Keys:
        return Keys(self.namespace)

    def add_dead(
        self,
        queue: str,
        id: str,
        data: Any = None,
        *,
        reason: DeadReason = DeadReason.FAILED,
        failure: Failure = DECLINED,
        died_ms: int | None = None,
        **headers: str,
    ) -> str:
        raw = json.dumps(data or {}, separators=(",", ":")).encode()
        words = zip(FIELDS, encode_fields(Envelope(id, "order", raw, headers, attempt=3)), strict=True)
        end = (b"reason", reason.encode(), b"error", encode_failure(failure))
        place = f"{died_ms}-1" if died_ms else "*"
        flat = [word for pair in words for word in pair]
        return str(run(self.admin, "XADD", self.keys.dead(queue), place, *flat, *end).decode())

    def ready(self, queue: str) -> list[Envelope]:
        rows = run(self.admin, "XRANGE", self.keys.queue(queue), "-", "+")
        return [decode_fields(flat) for _, flat in rows]

    def dead(self, queue: str) -> int:
        return int(run(self.admin, "XLEN", self.keys.dead(queue)))


@pytest.fixture
def shop(valkey: Server, namespace: str, tmp_path: Path) -> Iterator[Shop]:
    text = TOPOLOGY.format(namespace=namespace, url=valkey.url)
    with applied_file(text, valkey.url, tmp_path) as (file, admin):
        yield Shop(file, namespace, admin)


Leanmq = Callable[..., Ended]


@pytest.fixture
def leanmq(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Leanmq:
    return lambda *words: leanmq_here(capsys, *words, "-f", str(shop.file))


def ids(envelopes: Sequence[Envelope]) -> list[str]:
    return [envelope.id for envelope in envelopes]


def sit_at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: bool) -> list[str]:
    """Somebody is there and answers so. Returns the questions asked."""
    asked: list[str] = []

    def confirm(question: str, **options: Any) -> bool:
        asked.append(question)
        return answer

    monkeypatch.setattr(approval.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(approval.click, "confirm", confirm)
    return asked


# -- replay ----------------------------------------------------------------------------------------------


def test_dead_letters_go_back_to_the_queues_they_came_from(shop: Shop, leanmq: Leanmq):
    shop.add_dead("billing", "b1")
    shop.add_dead("emails", "e1")
    done = leanmq("dlq", "replay", "--yes")
    assert (done.code, done.out) == (0, "2 replayed\n")
    assert (ids(shop.ready("billing")), ids(shop.ready("emails"))) == (["b1"], ["e1"])
    assert shop.dead("billing") == shop.dead("emails") == 0


def test_a_replayed_message_tells_of_its_deaths(shop: Shop, leanmq: Leanmq):
    entry = shop.add_dead("billing", "b1", color="red")
    leanmq("dlq", "replay", "--yes")
    [message] = shop.ready("billing")
    lineage = f"failed@{entry}"
    assert message.headers == {"color": "red", "leanmqreplayed": "1", "leanmqlineage": lineage}
    again = shop.add_dead("emails", "b1", reason=DeadReason.EXPIRED, **dict(message.headers))
    leanmq("dlq", "replay", "--yes")
    [message] = shop.ready("emails")
    assert message.headers["leanmqreplayed"] == "2"
    assert message.headers["leanmqlineage"] == f"{lineage},expired@{again}"


def test_nothing_moves_without_approval_where_nobody_can_be_asked(shop: Shop, leanmq: Leanmq):
    shop.add_dead("billing", "b1")
    for verb in ("replay", "discard"):
        refused = leanmq("dlq", verb)
        assert (refused.code, refused.out) == (4, "")
        assert f"blocked: queues.billing: {verb} 1 dead letter: needs approval" in refused.err
        assert "--yes" in refused.err
    assert leanmq("dlq", "replay", "-o", "json").json["error"]["type"] == "BlockedChangeError"
    assert shop.dead("billing") == 1


@pytest.mark.parametrize("agrees", [True, False])
def test_a_person_at_the_terminal_is_told_how_many_and_asked(
    shop: Shop, leanmq: Leanmq, monkeypatch: pytest.MonkeyPatch, agrees: bool
):
    shop.add_dead("billing", "b1")
    shop.add_dead("billing", "b2")
    asked = sit_at_a_terminal(monkeypatch, agrees)
    done = leanmq("dlq", "replay")
    assert asked == ["Replay 2 dead letters?"]
    assert "billing: 2" in done.err
    assert (done.code, shop.dead("billing")) == ((0, 0) if agrees else (4, 2))


def test_messages_named_by_id_are_replayed_without_a_question_and_each_is_answered_for(
    shop: Shop, leanmq: Leanmq
):
    shop.add_dead("billing", "b1")
    entry = shop.add_dead("billing", "b2")
    shop.add_dead("billing", "b3")
    done = leanmq("dlq", "replay", "--id", "b1", "--id", entry, "--id", "*", "-o", "json")
    assert done.code == 1
    assert done.json["results"] == [
        {"id": "b1", "queue": "billing", "result": "replayed"},
        {"id": "b2", "queue": "billing", "result": "replayed"},
        {"id": "*", "queue": None, "result": "unknown"},
    ]
    assert (done.json["replayed"], done.json["failed"]) == (2, 1)
    assert ids(shop.ready("billing")) == ["b1", "b2"]


def test_an_id_of_another_queue_is_not_found_in_this_one(shop: Shop, leanmq: Leanmq):
    shop.add_dead("emails", "e1")
    done = leanmq("dlq", "replay", "billing", "--id", "e1")
    assert (done.code, done.out) == (1, "e1 is not in a dead-letter queue\n")
    assert shop.dead("emails") == 1


def test_a_full_queue_stops_and_says_how_many_stay(shop: Shop, leanmq: Leanmq):
    for number in range(5):
        shop.add_dead("billing", f"b{number}")
    shop.add_dead("emails", "e1")
    done = leanmq("dlq", "replay", "--yes", "-o", "json")
    assert done.code == 1
    assert (done.json["selected"], done.json["replayed"], done.json["failed"]) == (
        {"billing": 5, "emails": 1}, 4, 2,
    )  # fmt: skip
    assert [row["result"] for row in done.json["results"]] == ["replayed"] * 3 + ["queue_full"] * 2 + [
        "replayed"
    ]
    assert (len(shop.ready("billing")), shop.dead("billing")) == (3, 2)


def test_more_than_one_step_is_replayed_in_order(shop: Shop, leanmq: Leanmq):
    names = [f"e{number:03d}" for number in range(250)]
    for name in names:
        shop.add_dead("emails", name)
    assert leanmq("dlq", "replay", "emails", "--yes").out == "250 replayed\n"
    assert ids(shop.ready("emails")) == names


def test_an_entry_that_nobody_could_handle_stays_and_does_not_hold_up_the_others(shop: Shop, leanmq: Leanmq):
    run(
        shop.admin,
        "XADD",
        shop.keys.dead("emails"),
        "*",
        "foreign",
        "x",
        "reason",
        "undecodable",
        "error",
        "{}",
    )
    shop.add_dead("emails", "e1")
    done = leanmq("dlq", "replay", "--yes")
    assert done.code == 1
    assert "is not a message that could be handled" in done.out
    assert "1 replayed" in done.out
    assert (ids(shop.ready("emails")), shop.dead("emails")) == (["e1"], 1)


def test_a_dry_run_counts_and_touches_nothing(shop: Shop, leanmq: Leanmq):
    shop.add_dead("billing", "b1")
    for verb in ("replay", "discard"):
        done = leanmq("dlq", verb, "--dry-run")
        assert (done.code, done.out) == (0, f"billing: 1\n1 dead letter would be {verb}ed\n")
    assert shop.dead("billing") == 1


def test_a_server_at_its_memory_limit_keeps_what_it_cannot_take_and_says_so(
    shop: Shop, leanmq: Leanmq, request: pytest.FixtureRequest
):
    shop.add_dead("billing", "b1")
    request.addfinalizer(lambda: run(shop.admin, "CONFIG", "SET", "maxmemory", 0))
    run(shop.admin, "CONFIG", "SET", "maxmemory", 1)
    done = leanmq("dlq", "replay", "--yes")
    assert (done.code, done.out) == (1, "b1 stays: the server is at its memory limit\n0 replayed\n")
    assert shop.dead("billing") == 1


def test_an_interrupted_replay_says_how_far_it_came_and_goes_on_when_it_is_repeated(
    shop: Shop, leanmq: Leanmq, monkeypatch: pytest.MonkeyPatch
):
    for number in range(5):
        shop.add_dead("emails", f"e{number}")
    waits: list[int] = []

    def interrupt_the_third(pace: Pace, count: int) -> None:
        waits.append(count)
        if len(waits) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Pace, "wait", interrupt_the_third)
        done = leanmq("dlq", "replay", "--yes", "--rate", "4")
    assert done.code == 130
    assert "2 replayed so far; the rest is untouched" in done.err
    assert leanmq("dlq", "replay", "--yes").out == "3 replayed\n"
    assert ids(shop.ready("emails")) == ["e0", "e1", "e2", "e3", "e4"]


def test_nothing_to_replay_is_no_failure(leanmq: Leanmq):
    done = leanmq("dlq", "replay")
    assert (done.code, done.out) == (0, "no dead letters\n")


# -- filters ---------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(shop: Shop) -> Shop:
    """Five dead letters that differ in everything a filter can ask for."""
    shop.add_dead("billing", "old", {"total": 5}, died_ms=LONG_AGO_MS)
    shop.add_dead("billing", "big", {"total": 500, "customer": {"country": "DE"}})
    shop.add_dead("billing", "slow", {"total": 7, "tags": ["a", "b"]}, failure=TIMED_OUT)
    shop.add_dead("emails", "late", {"total": "5"}, reason=DeadReason.EXPIRED, failure=Failure("", ""))
    shop.add_dead("emails", "flag", {"total": True}, reason=DeadReason.REJECTED)
    return shop


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["old", "big", "slow", "late", "flag"]),
        (("billing",), ["old", "big", "slow"]),
        (("--reason", "expired"), ["late"]),
        (("--reason", "expired", "--reason", "rejected"), ["late", "flag"]),
        (("--error", "timeouterror"), ["slow"]),
        (("--error", "no answer"), ["slow"]),
        (("--where", "/total=5"), ["old", "late"]),
        (("--where", "/total=true"), ["flag"]),
        (("--where", "/total=1"), []),
        (("--where", "/customer/country=DE"), ["big"]),
        (("--where", "/tags/1=b"), ["slow"]),
        (("--where", "/tags/9=b"), []),
        (("--where", "/total=500", "--where", "/customer/country=FR"), []),
        (("--older-than", "1d"), ["old"]),
        (("--id", "slow", "--id", "late"), ["slow", "late"]),
        (("--limit", "2"), ["old", "big"]),
        (("--error", "declined", "billing", "--limit", "1"), ["old"]),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_filter_selects_the_same_for_looking_and_for_acting(
    mixed: Shop, leanmq: Leanmq, words: tuple[str, ...], expected: list[str]
):
    listed = leanmq("dlq", "list", *words, "-o", "json").json["messages"]
    assert [row["id"] for row in listed] == expected
    done = leanmq("dlq", "discard", *words, "--yes", "-o", "json")
    assert done.json["discarded"] == len(expected)
    left = [row["id"] for row in leanmq("dlq", "list", "-o", "json").json["messages"]]
    assert left == [id for id in ("old", "big", "slow", "late", "flag") if id not in expected]


@pytest.mark.parametrize("hours", [-2, 2])
def test_how_long_ago_something_died_goes_by_the_clock_of_the_server(
    shop: Shop, leanmq: Leanmq, monkeypatch: pytest.MonkeyPatch, hours: int
):
    own = time.time
    monkeypatch.setattr(time, "time", lambda: own() + hours * 3600)
    seconds, _ = run(shop.admin, "TIME")
    for minutes in (90, 30):
        shop.add_dead("billing", f"{minutes}", died_ms=(int(seconds) - minutes * 60) * 1000)
    listed = leanmq("dlq", "list", "--older-than", "1h", "-o", "json").json["messages"]
    assert [row["id"] for row in listed] == ["90"]
    leanmq("dlq", "discard", "--older-than", "1h", "--yes")
    left = leanmq("dlq", "list", "-o", "json").json["messages"]
    assert [row["id"] for row in left] == ["30"]


@pytest.mark.parametrize(
    "words", [("--where", "total=5"), ("--where", "/total"), ("--older-than", "5"), ("--reason", "bad"),
              ("--limit", "0"), ("--rate", "-1")],
)  # fmt: skip
def test_a_filter_that_cannot_be_read_is_a_usage_error(leanmq: Leanmq, words: tuple[str, ...]):
    assert leanmq("dlq", "discard", *words, "--yes").code == 64


# -- looking ---------------------------------------------------------------------------------------------


def test_stats_group_by_queue_reason_and_error(mixed: Shop, leanmq: Leanmq):
    mixed.add_dead("billing", "again", leanmqreplayed="1")
    groups = leanmq("dlq", "stats", "-o", "json").json["groups"]
    seen = [(row["queue"], row["reason"], row["error_type"], row["count"]) for row in groups]
    assert seen == [
        ("billing", "failed", "CardDeclinedError", 3),
        ("billing", "failed", "TimeoutError", 1),
        ("emails", "expired", "", 1),
        ("emails", "rejected", "CardDeclinedError", 1),
    ]
    assert groups[0]["first_failed_at"] == LONG_AGO_MS / 1000 < groups[0]["last_failed_at"]
    assert (groups[0]["replayed_before"], groups[0]["newest_id"]) == (1, "again")
    text = leanmq("dlq", "stats", "billing").out.splitlines()
    assert text[0].split() == ["queue", "reason", "error", "count", "replayed", "before", "first", "last"]
    assert text[1].split()[:5] == ["billing", "failed", "CardDeclinedError", "3", "1"]


def test_export_prints_one_json_line_each_and_loses_no_digit(shop: Shop, leanmq: Leanmq):
    shop.add_dead("billing", "b1", {"big": 9007199254740993}, color="red")
    shop.add_dead("emails", "e1")
    done = leanmq("dlq", "export")
    first, second = (json.loads(line) for line in done.out.splitlines())
    assert (first["id"], first["queue"], first["data"]) == ("b1", "billing", {"big": 9007199254740993})
    assert first["headers"] == {"color": "red"}
    assert second["id"] == "e1"
    assert leanmq("dlq", "export", "-o", "json").json["messages"] == [first, second]


def test_show_tells_everything_of_one_message(shop: Shop, leanmq: Leanmq):
    entry = shop.add_dead("billing", "b1", {"total": 5}, color="red", leanmqreplayed="2")
    text = leanmq("dlq", "show", "b1").out
    for part in (
        "billing",
        entry,
        "CardDeclinedError: card 42",
        "red",
        '{"total":5}',
        "replayed 2 times before",
    ):
        assert part in text
    assert leanmq("dlq", "show", entry, "-o", "json").json["messages"][0]["id"] == "b1"


def test_an_id_that_is_not_dead_cannot_be_shown(leanmq: Leanmq):
    done = leanmq("dlq", "show", "b1")
    assert (done.code, done.out) == (1, "")
    assert "no message 'b1' lies in a dead-letter queue" in done.err


def test_a_list_tells_what_was_replayed_before(shop: Shop, leanmq: Leanmq):
    shop.add_dead("billing", "b1", leanmqreplayed="1")
    assert "failed after 3 attempts, replayed 1 time before" in leanmq("dlq", "list").out


def test_peek_shows_what_waits_and_what_is_dead(shop: Shop, leanmq: Leanmq):
    leanmq("send", "billing", '{"n": 1}', "--id", "now")
    leanmq("send", "billing", '{"n": 2}', "--id", "later", "--delay", "1h")
    shop.add_dead("billing", "gone")
    assert leanmq("peek", "emails").out == "emails is empty\n"
    lines = leanmq("peek", "billing").out.splitlines()
    assert (lines[0], lines[2], lines[3]) == ("ready", '    {"n":1}', "delayed")
    assert lines[1].startswith("  now  order  since ")
    assert lines[4].startswith("  later  order  due in 3,")
    found = leanmq("peek", "billing", "-n", "1", "-o", "json").json["messages"]
    assert [(row["id"], row["state"], row["data"]) for row in found] == [
        ("now", "ready", {"n": 1}), ("later", "delayed", {"n": 2}),
    ]  # fmt: skip
    assert [row["id"] for row in leanmq("peek", "billing", "--dead", "-o", "json").json["messages"]] == [
        "gone"
    ]
    assert len(shop.ready("billing")) == 1


# -- purge, pause, resume --------------------------------------------------------------------------------


def test_a_purge_says_what_went_and_how_to_get_it_back(shop: Shop, leanmq: Leanmq):
    leanmq("send", "billing", "{}", "--id", "m1")
    leanmq("send", "billing", "{}", "--id", "m2", "--delay", "1h")
    done = leanmq("purge", "billing", "--yes")
    assert done.out == "billing: 1 ready, 1 delayed; `leanmq purge --undo billing` brings them back\n"
    assert not shop.ready("billing")
    assert leanmq("purge", "--undo", "billing").out == "billing: 2 brought back\n"
    assert ids(shop.ready("billing")) == ["m1"]


def test_dead_letters_are_purged_by_an_explicit_word(shop: Shop, leanmq: Leanmq):
    shop.add_dead("billing", "b1")
    assert leanmq("purge", "billing", "--yes").out == "billing: nothing to purge\n"
    done = leanmq("purge", "billing", "--dead", "--yes", "-o", "json")
    purged = {"ready": 0, "in_flight": 0, "delayed": 0, "dead": 1, "reversible": True}
    assert done.json["purged"] == {"billing": purged}
    assert leanmq("purge", "--undo", "billing").code == 4
    assert leanmq("purge", "--undo", "--dead", "billing", "-o", "json").json["restored"] == {"billing": 1}
    assert shop.dead("billing") == 1


def test_a_permanent_purge_cannot_be_undone(shop: Shop, leanmq: Leanmq):
    leanmq("send", "billing", "{}")
    assert leanmq("purge", "billing", "--permanent", "--yes").out == "billing: 1 ready\n"
    done = leanmq("purge", "--undo", "billing")
    assert (done.code, done.out) == (4, "")
    assert "no purge of it in the last 24 h to undo" in done.err


def test_a_purge_asks_first_unless_there_is_nothing_to_lose(
    shop: Shop, leanmq: Leanmq, monkeypatch: pytest.MonkeyPatch
):
    assert leanmq("purge", "emails").code == 0
    leanmq("send", "emails", "{}")
    refused = leanmq("purge", "emails")
    assert (refused.code, len(shop.ready("emails"))) == (4, 1)
    asked = sit_at_a_terminal(monkeypatch, True)
    assert leanmq("purge", "emails").code == 0
    assert asked == ["Purge 1 message?"]


def test_a_pause_is_shown_and_holds_until_it_is_taken_back(leanmq: Leanmq):
    assert leanmq("pause", "billing").out == "billing: paused\n"
    assert leanmq("pause", "billing", "emails").out == "billing: paused already\nemails: paused\n"
    assert leanmq("send", "billing", "{}").code == 0
    queues = leanmq("status", "-o", "json").json["queues"]
    assert (queues["billing"]["paused"], queues["billing"]["ready"]) == (True, 1)
    done = leanmq("resume", "--all", "-o", "json").json
    assert done == {
        "schema": "leanmq.resume/v1",
        "queues": ["billing", "emails"],
        "changed": ["billing", "emails"],
    }
    assert leanmq("resume", "billing").out == "billing: was not paused\n"


@pytest.mark.parametrize("words", [("pause",), ("resume",), ("pause", "billing", "--all"), ("purge",),
                                   ("purge", "billing", "--undo", "--permanent")], ids=" ".join)  # fmt: skip
def test_all_queues_are_meant_only_by_an_explicit_word(leanmq: Leanmq, words: tuple[str, ...]):
    assert leanmq(*words).code == 64


@pytest.mark.parametrize("words", [("pause",), ("resume",), ("purge", "--yes"), ("peek",), ("dlq", "list"),
                                   ("dlq", "replay"), ("dlq", "stats")], ids=" ".join)  # fmt: skip
def test_a_queue_that_does_not_exist_is_named_with_the_closest_one(leanmq: Leanmq, words: tuple[str, ...]):
    done = leanmq(*words, "biling")
    assert (done.code, done.out) == (3, "")
    assert "did you mean 'billing'?" in done.err
