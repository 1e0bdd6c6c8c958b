"""`leanmq send` as it is typed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.cli.main import main
from leanmq_topology.messages.codec import decode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.topology.model import Topology
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


Send = Callable[..., SimpleNamespace]


@pytest.fixture
def send(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Send:
    def call(*words: str) -> SimpleNamespace:
        with pytest.raises(SystemExit) as ended:
            main(["send", *words, "-f", str(shop.file)])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code, out=out, err=err)

    return call


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
