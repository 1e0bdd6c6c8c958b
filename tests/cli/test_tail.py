"""`leanmq tail` as it is typed: what arrives is shown and left where it is."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from leanmq_topology import SyncClient, connect_sync
from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from leanmq_topology.messages.codec import FIELDS, encode_failure, encode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import Failure
from leanmq_topology.operations.queues import purge_queue
from tests.support.commands import LEANMQ, Ended, leanmq_here, own_environ
from tests.support.factories import applied_file, run
from tests.support.servers import Server

TOPOLOGY = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  order: {{schema: {{type: object}}}}
queues:
  billing: {{accepts: [order]}}
  emails: {{accepts: [order]}}
routes:
  orders: {{type: fanout, to: {{billing: {{}}, emails: {{}}}}}}
  ticker: {{type: ephemeral}}
"""


@dataclass
class Shop:
    file: Path
    keys: Keys
    admin: BlockingRedisConnection
    client: SyncClient

    def add(
        self, key: str, id: str, *end: bytes, attempt: int = 0, data: str = "{}", entry: str = "*"
    ) -> None:
        envelope = Envelope(id, "order", data.encode(), attempt=attempt)
        words = zip(FIELDS, encode_fields(envelope), strict=True)
        run(self.admin, "XADD", key, entry, *(word for pair in words for word in pair), *end)

    def pass_a_millisecond(self) -> None:
        """By the server's clock, which entry ids go by."""
        began = read_time_ms(self.admin)
        while read_time_ms(self.admin) == began:
            pass

    def make_stream(self, queue: str) -> None:
        run(self.admin, "XGROUP", "CREATE", self.keys.queue(queue), GROUP, "0", "MKSTREAM")


def read_time_ms(admin: BlockingRedisConnection) -> int:
    seconds, microseconds = run(admin, "TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


@pytest.fixture
def shop(server: Server, namespace: str, tmp_path: Path) -> Iterator[Shop]:
    text = TOPOLOGY.format(namespace=namespace, url=server.url)
    with applied_file(text, server.url, tmp_path) as (file, admin), connect_sync(file) as client:
        yield Shop(file, Keys(namespace), admin, client)


Leanmq = Callable[..., Ended]


@pytest.fixture
def leanmq(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Leanmq:
    return lambda *words: leanmq_here(capsys, *words, "-f", str(shop.file))


class Following:
    """`leanmq tail` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next(self) -> list[str]:
        """The columns of the next line behind its time."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n").split("  ")[1:]

    def hear(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self) -> str:
        """Ctrl-C; returns what it said since."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=40)
        return said


@contextmanager
def tailing(shop: Shop, *words: str) -> Iterator[Following]:
    process = subprocess.Popen(
        [*LEANMQ, "tail", *words],
        cwd=shop.file.parent, env=own_environ(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        found = Following(process)
        assert found.hear().startswith("following ")
        yield found
    finally:
        process.kill()
        process.communicate()


def test_what_arrives_behind_a_route_is_shown_and_stays_where_it_is(shop: Shop):
    shop.client.send("billing", {"n": 0})
    with tailing(shop, "orders") as tail:
        id = shop.client.send("orders", {"n": 1})
        assert [tail.next(), tail.next()] == [
            [name, id, "order", '{"n":1}'] for name in ("billing", "emails")
        ]
        assert tail.end() == ""
        assert tail.process.returncode == 0
    states = shop.admin.execute(RedisBroker(shop.keys.namespace).inspect_queues(["billing", "emails"]))
    assert [(state.ready, state.in_flight, state.consumers) for state in states] == [(2, 0, 0), (1, 0, 0)]


def test_a_queue_that_is_purged_or_deleted_and_made_again_is_followed_on(shop: Shop, server: Server):
    with tailing(shop, "billing") as tail:
        first = shop.client.send("billing", {})
        assert tail.next()[1] == first
        with open_blocking(server.url, namespace=shop.keys.namespace, folder=shop.file.parent) as link:
            purge_queue(link, "billing")
        second = shop.client.send("billing", {})
        assert tail.next()[1] == second
        run(shop.admin, "DEL", shop.keys.queue("billing"))
        shop.make_stream("billing")
        shop.pass_a_millisecond()  # a stream that is made anew within the same one gives the same id again
        third = shop.client.send("billing", {})
        assert tail.next()[1] == third


def test_a_connection_that_breaks_is_made_again_and_what_came_meanwhile_is_shown(shop: Shop):
    with tailing(shop, "billing") as tail:
        clients = run(shop.admin, "CLIENT", "LIST").decode().splitlines()
        [own] = [line for line in clients if "name=leanmq-tail " in line]
        run(shop.admin, "CLIENT", "KILL", "ID", own.partition("id=")[2].partition(" ")[0])
        id = shop.client.send("billing", {})
        assert "going on when the server is back" in tail.hear()
        assert tail.next()[1] == id
        assert tail.hear() == "the server is back\n"


def test_dead_letters_are_followed_with_their_end(shop: Shop):
    end = (b"reason", b"failed", b"error", encode_failure(Failure("CardDeclinedError", "card 42")))
    with tailing(shop, "--dead") as tail:
        shop.add(shop.keys.queue("billing"), "alive")
        shop.add(shop.keys.dead("emails"), "m1", *end, attempt=3)
        assert tail.next() == [
            "emails",
            "m1",
            "order",
            "failed after 3 attempts: CardDeclinedError: card 42",
            "{}",
        ]


def test_it_can_begin_in_the_past_select_by_data_and_end_by_count(shop: Shop, leanmq: Leanmq):
    for number in range(5):
        shop.add(shop.keys.queue("billing"), f"m{number}", data=json.dumps({"n": number % 2}))
    done = leanmq("tail", "billing", "--since", "1h", "--where", "/n=1", "--limit", "2", "-o", "json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["id"], line["data"]) for line in lines] == [("m1", {"n": 1}), ("m3", {"n": 1})]
    assert done.code == 0


@pytest.mark.parametrize("hours", [-2, 2])
def test_how_recently_something_came_goes_by_the_clock_of_the_server(
    shop: Shop, leanmq: Leanmq, monkeypatch: pytest.MonkeyPatch, hours: int
):
    own = time.time
    monkeypatch.setattr(time, "time", lambda: own() + hours * 3600)
    now_ms = read_time_ms(shop.admin)
    for minutes in (90, 30):
        shop.add(shop.keys.queue("billing"), f"{minutes}", entry=f"{now_ms - minutes * 60_000}-1")
    done = leanmq("tail", "billing", "--since", "1h", "--for", "20ms", "-o", "json")
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ["30"]


def test_a_retry_names_its_attempt_and_what_is_not_ours_is_shown_as_such(shop: Shop, leanmq: Leanmq):
    shop.add(shop.keys.queue("billing"), "again", attempt=1)
    run(shop.admin, "XADD", shop.keys.queue("billing"), "*", "x", "1")
    done = leanmq("tail", "billing", "--since", "1h", "--limit", "2")
    again, foreign = [line.split("  ")[2:] for line in done.out.splitlines()]
    assert again == ["again", "order", "attempt 2", "{}"]
    assert foreign[-1] == "(unreadable)"


def test_less_than_was_asked_for_in_time_is_a_failure(leanmq: Leanmq):
    done = leanmq("tail", "--for", "20ms", "--limit", "1")
    assert (done.code, done.out) == (7, "")
    assert "0 of 1 messages came in time" in done.err
    assert leanmq("tail", "--for", "20ms").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("biling",), 3, "did you mean 'billing'?"),
        (("ticker",), 64, "`leanmq sub ticker` listens to it"),
        (("--where", "n=1"), 64, "is not of the form /pointer=value"),
        (("--limit", "0"), 64, "0 is not in the range"),
        (("--since", "10"), 64, "10"),
    ],
)
def test_a_mistake_is_named_and_how_to_mend_it(leanmq: Leanmq, words: tuple[str, ...], code: int, said: str):
    done = leanmq("tail", *words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_where_nothing_was_applied_there_is_nothing_to_follow(
    server: Server, tmp_path: Path, namespace: str, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY.format(namespace=namespace, url=server.url))
    assert leanmq_here(capsys, "tail", "-f", str(file)).code == 4


def test_where_only_ephemeral_routes_are_applied_names_are_looked_at_first(
    server: Server, tmp_path: Path, namespace: str, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "topology.yaml"
    head = f'leanmq: 1\nname: {namespace}\nbroker: {{url: "{server.url}"}}\n'
    file.write_text(f"{head}routes: {{ticker: {{type: ephemeral}}}}\n")
    assert leanmq_here(capsys, "apply", "-f", str(file)).code == 0
    for words, code, said in (
        (("ticker",), 64, "an ephemeral route stores nothing"),
        (("tiker",), 3, "did you mean 'ticker'?"),
        ((), 64, "nothing here stores messages"),
    ):
        done = leanmq_here(capsys, "tail", *words, "-f", str(file))
        assert (done.code, done.out) == (code, "")
        assert said in done.err
