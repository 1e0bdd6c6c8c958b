"""`leanmq pub`, `leanmq sub` and `leanmq shell` as they are typed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import connect_sync
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.cli.session.publishing import Publishing
from leanmq_topology.topology.model import Topology
from tests.support.commands import LEANMQ, Ended, leanmq_here, own_environ
from tests.support.factories import run, write_topology
from tests.support.servers import Server

TOPOLOGY = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  price:
    schema: {{type: object, required: [n], properties: {{n: {{type: integer}}}}}}
    examples: [{{n: 1}}, {{n: 2}}]
queues:
  work: {{accepts: [price], ttl: 1d}}
routes:
  ticker: {{type: ephemeral, accepts: [price]}}
"""


@pytest.fixture
def file(valkey: Server, namespace: str, tmp_path: Path) -> Path:
    made = tmp_path / "topology.yaml"
    made.write_text(TOPOLOGY.format(namespace=namespace, url=valkey.url))
    admin = BlockingRedisConnection.open(parse_address(valkey.url))
    write_topology(admin, Topology.load(made))
    admin.close()
    return made


Call = Callable[..., Ended]


@pytest.fixture
def leanmq(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def call(*words: str, stdin: str | io.StringIO = "") -> Ended:
        if isinstance(stdin, str):
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        else:
            monkeypatch.setattr("sys.stdin", stdin)
        return leanmq_here(capsys, *words, "-f", str(file))

    return call


@pytest.fixture
def heard(file: Path) -> Iterator[Callable[[int], list[Any]]]:
    """What a client of Python hears on any channel."""
    with connect_sync(str(file)) as mq, mq.subscribe("*") as subscription:

        def take(count: int) -> list[Any]:
            found = [subscription.next(20) for _ in range(count)]
            assert subscription.next(0.1) is None
            return found

        yield take


# -- pub -------------------------------------------------------------------------------------------------


def test_pub_prints_how_many_heard_it(leanmq: Call, heard: Callable[[int], list[Any]]):
    done = leanmq("pub", "ticker", '{"n": 1}', "--header", "tenant=a")
    assert (done.code, done.out) == (0, "1\n")
    (message,) = heard(1)
    assert (message.data, message.type, message.headers["tenant"]) == ({"n": 1}, "price", "a")


def test_pub_takes_a_message_a_line_and_checks_all_before_any(
    leanmq: Call, heard: Callable[[int], list[Any]], tmp_path: Path
):
    lines = tmp_path / "lines"
    lines.write_text('{"n": 1}\n\n{"n": 2}\n')
    assert leanmq("pub", "ticker", f"@{lines}", "--ndjson").out == "2\n"
    assert leanmq("pub", "ticker", "-", "--ndjson", stdin='{"n": 3}\n{"n": "four"}\n').code == 3
    wrong = leanmq("pub", "ticker", "-", "--ndjson", stdin='{"n": 3}\n{"n": \n')
    assert (wrong.code, "(line 2)" in wrong.err) == (3, True)
    assert [message.data["n"] for message in heard(2)] == [1, 2]


def test_pub_goes_on_at_intervals_and_ends_after_its_count(leanmq: Call, heard: Callable[[int], list[Any]]):
    done = leanmq("pub", "a.b", '{"x": 1}', "--every", "10ms", "--count", "3", "-o", "json")
    assert json.loads(done.out) == {"schema": "leanmq.pub/v1", "published": 3, "receivers": 3}
    assert [message.channel for message in heard(3)] == ["a.b"] * 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pub", "ticker", '{"n": "one"}'), 3, "at /n"),
        (("pub", "ticker", "{bad"), 3, "not valid JSON"),
        (("pub", "ticker", "@/nowhere"), 64, "cannot be read"),
        (("pub", "work", "{}"), 64, "send"),
        (("pub", "alerts.*", "{}"), 64, "pattern"),
        (("pub", "ticker"), 64, "what to publish"),
        (("pub", "ticker", "{}", "--count", "2"), 64, "--every"),
        (("pub", "ticker", "-", "--ndjson", "--every", "1s"), 64, "exclude"),
        (("pub", "ticker", '{"n": 1}', "--header", "odd"), 64, "name=value"),
        (("sub",), 64, "name a channel"),
        (("sub", "work"), 64, "consume"),
        (("sub", "a b"), 64, "no name of a channel"),
        (("sub", "--interactive", "--count", "1"), 64, "goes without"),
        (("sub", "ticker", "--count", "1", "--for", "20ms"), 7, "0 of 1 messages"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_once_and_clearly(
    leanmq: Call, words: tuple[str, ...], code: int, said: str
):
    done = leanmq(*words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err


# -- sub -------------------------------------------------------------------------------------------------


def test_sub_prints_what_is_published_until_it_is_interrupted_and_counts_it(file: Path):
    listening = subprocess.Popen(
        [*LEANMQ, "sub", "ticker", "a.*", "-f", str(file)], env=own_environ(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert listening.stdout is not None
    assert listening.stderr is not None
    try:
        assert listening.stderr.readline() == "listening to ticker, a.*; Ctrl-C ends it\n"
        with connect_sync(str(file)) as mq:
            assert mq.publish_many([("ticker", {"n": 1}), ("a.b", {"x": "ü"})]) == [1, 1]
        printed = [listening.stdout.readline() for _ in range(2)]
        assert printed == ['ticker  price  {"n":1}\n', 'a.b  {"x":"ü"}\n']
        listening.send_signal(signal.SIGINT)
        out, err = listening.communicate(timeout=60)
    finally:
        listening.kill()
    assert (listening.returncode, out, err) == (0, "", "received 2 (a.b 1, ticker 1)\n")


# -- sessions --------------------------------------------------------------------------------------------


def test_a_session_publishes_listens_and_counts(leanmq: Call, heard: Callable[[int], list[Any]]):
    lines = ["sub ticker", 'pub ticker {"n": 5}', "batch ticker 2", 'inject ticker {"n": 9}', "stop", "stats"]
    done = leanmq("shell", "--write", stdin="\n".join([*lines, "exit", "nonsense"]))
    assert (done.code, done.err) == (0, "")
    assert [message.data["n"] for message in heard(3)] == [5, 1, 2]
    printed = done.out.splitlines()
    assert printed[0] == "listening to ticker"
    assert "heard by 2" in printed
    assert "ticker: 2 published, heard by 4 in all" in printed
    assert 'ticker  {"n":9}  (injected)' in printed
    assert printed[-3] == "published  3 (ticker), heard by 6"
    assert printed[-1] == "injected   1 (ticker)"


def test_a_session_publishes_again_and_again_in_the_background(
    leanmq: Call, heard: Callable[[int], list[Any]], monkeypatch: pytest.MonkeyPatch
):
    ended = threading.Event()

    class Lines(io.StringIO):
        def __next__(self) -> str:
            """The end of the input comes once the last message was published."""
            line = self.readline()
            if not line:
                ended.wait(20)
                raise StopIteration
            return line

    inner = Publishing._repeat

    def repeat(self: Publishing, *words: Any) -> None:
        inner(self, *words)
        ended.set()

    monkeypatch.setattr(Publishing, "_repeat", repeat)
    done = leanmq("shell", "--write", stdin=Lines("periodic ticker 20ms 3\nhelp\n"))
    assert [message.data["n"] for message in heard(3)] == [1, 2, 1]
    assert done.out.splitlines()[-1] == "periodic ticker: 3 of 3 published"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "there is no command 'nonsense'"),
        ("statu", "did you mean 'status'?"),
        ("pub ticker {bad", "not valid JSON"),
        ("pub ticker", "write: pub CHANNEL JSON"),
        ("pub work {}", "is a queue"),
        ("periodic ticker soon 3", "soon"),
        ("periodic ticker 1s many", "'many' is no number"),
        ("batch ticker 0", "no number from 1"),
        ("unsub ticker", "not listening to ticker"),
        ("listen", "no channel yet"),
        ("sub", "write: sub"),
        ("inject ticker", "write: inject"),
        ('send work "', "cannot be read"),
        ("peek nowhere", "nowhere"),
    ],
)
def test_a_line_that_cannot_be_obeyed_is_said_and_the_session_goes_on(leanmq: Call, line: str, said: str):
    done = leanmq("shell", "--write", stdin=f"{line}\nstats\n")
    assert done.code == 1
    assert said in done.err
    assert "published  0" in done.out
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "line",
    ['send work {"n":1}', "pub ticker {}", "batch", "periodic a 1s 1", "dlq discard --all", "request r {}"],
)
def test_a_session_only_looks_unless_it_is_told_otherwise(leanmq: Call, line: str, file: Path):
    done = leanmq("shell", stdin=f"{line}\npeek work\ndlq list\nstatus\n")
    assert done.code == 1
    assert "--write" in done.err or "no command 'request'" in done.err
    assert "work is empty" in done.out
    assert "no dead letters" in done.out


def test_a_session_sends_as_the_command_does(leanmq: Call, valkey: Server, namespace: str):
    done = leanmq("shell", "--write", stdin="send work '{\"n\": 1}' --id one\npeek work\n")
    assert (done.code, done.out.splitlines()[0]) == (0, "one")
    assert "one" in done.out.splitlines()[1:][0] or "one" in done.out
    admin = BlockingRedisConnection.open(parse_address(valkey.url))
    assert run(admin, "XLEN", f"{{{namespace}}}:q:work") == 1
    admin.close()


@pytest.mark.parametrize(("command", "foreign"), [("pub", "sub"), ("sub", "pub"), ("pub", "status")])
def test_a_publisher_or_subscriber_knows_its_own_commands_only(leanmq: Call, command: str, foreign: str):
    done = leanmq(command, "--interactive", stdin=f"{foreign} x y\nhelp\n")
    assert (done.code, f"there is no command {foreign!r}" in done.err) == (1, True)
    assert "stats" in done.out
