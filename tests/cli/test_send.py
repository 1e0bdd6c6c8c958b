"""`leanmq send` as it is typed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.cli.sending_lines import LINES_A_STEP
from leanmq_topology.messages.codec import decode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.topology.model import Topology
from tests.support.commands import LEANMQ, Ended, leanmq_here, own_environ
from tests.support.factories import run, write_topology
from tests.support.servers import Server

TOPOLOGY = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  order:
    schema: {{type: object, required: [total], properties: {{total: {{type: number}}}}}}
    examples: [{{total: 9}}]
  note: {{schema: {{type: object}}}}
queues:
  billing: {{accepts: [order], ttl: 1d}}
  emails: {{accepts: [order, note], ttl: 1d}}
routes:
  events:
    type: fanout
    accepts: [order]
    to: {{billing: {{}}, emails: {{match: {{data.total: {{minimum: 50}}}}}}}}
handlers:
  charge: {{queue: billing, call: "shop:charge"}}
  mail: {{queue: emails, call: "shop:mail"}}
"""


@dataclass
class Shop:
    """A topology file that is applied, and what lies in its queues."""

    file: Path
    namespace: str
    admin: BlockingRedisConnection

    def stored(self, queue: str) -> list[Envelope]:
        rows = run(self.admin, "XRANGE", Keys(self.namespace).queue(queue), "-", "+")
        return [decode_fields(flat) for _, flat in rows]


@pytest.fixture
def shop(valkey: Server, namespace: str, tmp_path: Path) -> Iterator[Shop]:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY.format(namespace=namespace, url=valkey.url))
    admin = BlockingRedisConnection.open(parse_address(valkey.url))
    write_topology(admin, Topology.load(file))
    yield Shop(file, namespace, admin)
    admin.close()


Send = Callable[..., Ended]


@pytest.fixture
def send(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Send:
    return lambda *words: leanmq_here(capsys, "send", *words, "-f", str(shop.file))


def test_the_id_alone_is_printed_and_the_message_is_stored(shop: Shop, send: Send):
    done = send("billing", '{"total": 5}')
    assert (done.code, done.err) == (0, "")
    [stored] = shop.stored("billing")
    assert done.out == f"{stored.id}\n"
    assert (stored.type, stored.data) == ("order", b'{"total":5}')


def test_json_output_names_its_schema(shop: Shop, send: Send):
    done = send("billing", '{"total": 5}', "-o", "json")
    assert json.loads(done.out) == {"schema": "leanmq.send/v1", "id": shop.stored("billing")[0].id}


def test_all_that_was_said_of_the_message_holds(shop: Shop, send: Send):
    done = send(
        "emails", "{}", "--type", "note", "--id", "n-1", "--ttl", "5m", "--header", "a=b=c", "--header", "d="
    )
    assert done.out == "n-1\n"
    [stored] = shop.stored("emails")
    assert (stored.id, stored.type) == ("n-1", "note")
    assert stored.headers["a"] == "b=c"
    assert stored.headers["d"] == ""
    assert stored.expires_ms is not None


def test_a_delayed_message_is_not_ready_yet(shop: Shop, send: Send):
    assert send("billing", '{"total": 5}', "--delay", "1h").code == 0
    assert not shop.stored("billing")
    assert run(shop.admin, "ZCARD", Keys(shop.namespace).delayed("billing")) == 1


def test_a_route_fans_out(shop: Shop, send: Send):
    send("events", '{"total": 5}')
    send("events", '{"total": 50}')
    assert [len(shop.stored(queue)) for queue in ("billing", "emails")] == [2, 1]


def test_data_comes_from_a_file_from_standard_input_or_from_the_example(
    shop: Shop, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "order.json").write_text('{"total": 1}')
    assert send("billing", f"@{tmp_path / 'order.json'}").code == 0
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"total": 2}')))
    assert send("billing", "-").code == 0
    assert send("billing", "--example").code == 0
    assert [stored.data for stored in shop.stored("billing")] == [
        b'{"total":1}',
        b'{"total":2}',
        b'{"total":9}',
    ]


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("billing", '{"total": "much"}'), "/total"),
        (("billing", "{}"), "total"),
        (("billing", '{"total": 1'), "JSON"),
        (("billing", '{"total": NaN}'), "message is invalid"),
        (("billing", '{"total": 1, "total": 2}'), "/total"),
        (("emails", "{}"), "note, order"),
        (("emails", "{}", "--type", "nothing"), "nothing"),
        (("biling", "{}"), "did you mean 'billing'?"),
        (("biling", "--example"), "did you mean 'billing'?"),
        (("emails", "--example", "--type", "note"), "no example"),
    ],
)
def test_what_cannot_be_sent_exits_3_names_the_place_and_writes_nothing(
    shop: Shop, send: Send, words: tuple[str, ...], place: str
):
    done = send(*words)
    assert (done.code, done.out) == (3, "")
    assert place in done.err
    assert "Traceback" not in done.err
    assert not shop.stored("billing")
    assert not shop.stored("emails")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("billing",), "say what to send"),
        (("billing", "{}", "--example"), "exclude each other"),
        (("billing", "@/nowhere.json"), "cannot be read"),
        (("billing", '{"total": 1}', "--header", "novalue"), "has no `=`"),
        (("billing", '{"total": 1}', "--ttl", "5"), "ttl"),
        (("billing", '{"total": 1}', "--delay", "400d"), "365d"),
        (("emails", "--example"), "--type"),
    ],
)
def test_what_was_typed_wrongly_exits_64(shop: Shop, send: Send, words: tuple[str, ...], said: str):
    done = send(*words)
    assert (done.code, done.out) == (64, "")
    assert said in done.err
    assert not shop.stored("billing")


def test_an_error_is_json_when_json_was_asked_for(shop: Shop, send: Send):
    done = send("billing", "{}", "-o", "json")
    found = json.loads(done.out)
    assert (done.code, found["schema"], found["error"]["type"]) == (
        3,
        "leanmq.error/v1",
        "InvalidMessageError",
    )


def test_a_topology_that_was_never_applied_exits_4_and_nothing_is_created(shop: Shop, send: Send):
    run(shop.admin, "DEL", Keys(shop.namespace).topology, Keys(shop.namespace).queue("billing"))
    done = send("billing", '{"total": 1}')
    assert done.code == 4
    assert "leanmq apply" in done.err
    assert not run(shop.admin, "EXISTS", Keys(shop.namespace).queue("billing"))


def test_a_server_that_is_not_there_exits_5(send: Send):
    done = send("billing", '{"total": 1}', "--url", "unix:///nowhere/s")
    assert done.code == 5
    assert "cannot reach unix:///nowhere/s" in done.err


def test_it_works_as_a_process_of_its_own(shop: Shop):
    words = ["send", "billing", '{"total": 1}', "-f", str(shop.file)]
    command = [sys.executable, "-m", "leanmq_topology.cli.main", *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == shop.stored("billing")[0].id


# -- many at once -----------------------------------------------------------------------------------------


def write_lines(shop: Shop, *lines: str) -> str:
    file = shop.file.with_name("orders.ndjson")
    file.write_text("\n".join(lines) + "\n")
    return f"@{file}"


def test_lines_are_sent_in_order_and_their_ids_printed(shop: Shop, send: Send):
    done = send("billing", write_lines(shop, '{"total": 1}', "", '{"total": 2}'), "--ndjson", "--ttl", "1h")
    assert (done.code, done.err) == (0, "")
    stored = shop.stored("billing")
    assert done.out.splitlines() == [one.id for one in stored]
    assert [one.data for one in stored] == [b'{"total":1}', b'{"total":2}']
    assert all(one.expires_ms for one in stored)


def test_lines_come_from_standard_input_too(shop: Shop, send: Send, monkeypatch: pytest.MonkeyPatch):
    for words in ((), ("-",)):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"total": 1}\n{"total": 2}')))
        assert send("billing", *words, "--ndjson").code == 0
    assert len(shop.stored("billing")) == 4


def test_lines_from_a_pipe_are_stored_as_they_come(shop: Shop):
    """Not once a thousand are there, or the pipe is closed."""
    process = subprocess.Popen(
        [*LEANMQ, "send", "billing", "--ndjson", "-f", str(shop.file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own_environ(), bufsize=0,
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for total in (1, 2):
                process.stdin.write(b'{"total": %d}\n' % total)
                assert select.select([process.stdout], [], [], 60)[0], "nothing was stored"
                assert process.stdout.readline().decode().strip() == shop.stored("billing")[-1].id
            process.stdin.write(b'{"total": 3}')
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert [one.data for one in shop.stored("billing")] == [b'{"total":%d}' % total for total in (1, 2, 3)]


def test_more_lines_than_one_step_takes_are_all_stored(shop: Shop, send: Send):
    lines = [f'{{"total": {n}}}' for n in range(2345)]
    done = send("billing", write_lines(shop, *lines), "--ndjson", "-o", "json")
    assert json.loads(done.out) == {
        "schema": "leanmq.send/v1",
        "ids": [one.id for one in shop.stored("billing")],
    }
    assert len(shop.stored("billing")) == 2345


def test_a_wrong_line_is_named_and_those_before_it_are_stored(shop: Shop, send: Send):
    lines = [f'{{"total": {n}}}' for n in range(1200)]
    lines[1102] = '{"total": "a lot"}'
    file = write_lines(shop, *lines)
    done = send("billing", file, "--ndjson")
    assert done.code == 3
    assert done.out.splitlines() == [one.id for one in shop.stored("billing")]
    assert len(shop.stored("billing")) == 1102
    assert "error: line 1,103: message 'order' is invalid at /total" in done.err
    assert "the 1,102 messages up to line 1,102 are stored" in done.err

    told = json.loads(send("billing", file, "--ndjson", "-o", "json").out)
    assert told["error"]["type"] == "InvalidMessageError"
    assert told["stored_ids"] == [one.id for one in shop.stored("billing")[1102:]]
    assert len(told["stored_ids"]) == 1102


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ndjson", '{"total": 1}'], "@FILE"),
        (["--ndjson", "-", "--id", "x"], "--id"),
        (["--ndjson", "--example"], "--example"),
        (["--ndjson", "@nowhere.ndjson"], "cannot be read"),
        (["--topic", "a.b", '{"total": 1}'], "topic route"),
    ],
    ids=["data", "id", "example", "file", "topic"],
)
def test_what_does_not_go_together_exits_64_and_sends_nothing(
    shop: Shop, send: Send, words: list[str], told: str
):
    done = send("billing", *words)
    assert done.code == 64
    assert told in done.err
    assert shop.stored("billing") == []


def test_progress_is_drawn_on_a_terminal_and_goes_away(shop: Shop):
    """The lines come slowly enough to be watched; ids go to a file, so they do not disturb."""
    reads, writes = os.openpty()
    ids = shop.file.with_name("ids")
    with ids.open("wb") as printed:
        process = subprocess.Popen(
            [*LEANMQ, "send", "billing", "-", "--ndjson", "-f", str(shop.file)],
            stdin=subprocess.PIPE, stdout=printed, stderr=writes, env=own_environ(),
        )  # fmt: skip
    os.close(writes)
    assert process.stdin is not None
    screen = b""
    deadline = time.monotonic() + 60
    while b"messages" not in screen:
        assert time.monotonic() < deadline, screen
        process.stdin.write(b'{"total": 1}\n' * LINES_A_STEP)
        process.stdin.flush()
        if select.select([reads], [], [], 0.05)[0]:
            screen += os.read(reads, 4096)
    process.stdin.close()
    with contextlib.suppress(OSError):  # the terminal is gone with the process
        while more := os.read(reads, 4096):
            screen += more
    os.close(reads)
    assert process.wait(60) == 0
    assert len(ids.read_text().splitlines()) == len(shop.stored("billing"))
    assert screen.endswith(b" \r")
