"""`leanmq request` as it is typed, with a worker beside it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import pytest

from tests.support.commands import LEANMQ, Done, leanmq, own_environ, read_answer
from tests.support.servers import Server

OUTPUTS = Path(__file__).parents[2] / "docs" / "output"
TOPOLOGY = """
leanmq: 1
name: {namespace}
messages:
  calculation:
    schema: {{type: object, required: [a, b], properties: {{a: {{type: number}}, b: {{type: number}}}}}}
  result: {{schema: {{type: [number, string]}}}}
  undefined: {{schema: {{type: object, required: [a], properties: {{a: {{type: number}}}}}}}}
queues:
  calculations: {{accepts: [calculation], ttl: 1h, retry: {{never: [ZeroDivisionError]}}}}
  unanswered: {{accepts: [calculation], ttl: 1h}}
routes:
  divide:
    {{type: request, request: calculation, reply: result, error: undefined, queue: calculations,
     timeout: 40s}}
  silence: {{type: request, request: calculation, reply: result, queue: unanswered}}
handlers:
  calculator: {{queue: calculations, call: "calculator:divide"}}
"""
CALCULATOR = """
from leanmq_topology import Decline


def divide(data):
    if data["a"] == 0 == data["b"]:
        raise Decline({"a": 0}, "zero by zero")
    return "n\u00f6" if data["a"] == 13 else data["a"] / data["b"]
"""


@pytest.fixture(scope="module")
def folder(valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A topology that is applied, with a worker that answers."""
    made = tmp_path_factory.mktemp("calculator")
    (made / "topology.yaml").write_text(TOPOLOGY.format(namespace=made.name))
    (made / "calculator.py").write_text(CALCULATOR)
    assert leanmq("apply", folder=made, url=valkey.url).returncode == 0
    worker = subprocess.Popen(
        [*LEANMQ, "run"], cwd=made, env=own_environ(valkey.url),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield made, valkey.url
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0


Folder = tuple[Path, str]


def ask(at: Folder, *words: str, stdin: str | None = None) -> Done:
    return leanmq("request", *words, folder=at[0], url=at[1], stdin=stdin)


def test_the_reply_is_printed_as_json_alone(folder: Folder):
    done = ask(folder, "divide", '{"a": 7, "b": 2}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "3.5\n", "")
    done = ask(folder, "divide", "-", stdin='{"a": 13, "b": 2}')
    assert json.loads(done.stdout) == "n\u00f6"


def test_the_reply_is_told_as_documented(folder: Folder):
    answer = read_answer(ask(folder, "divide", '{"a": 7, "b": 2}', "--timeout", "40s", "-o", "json"))
    assert answer == {"schema": "leanmq.request/v1", "reply": 3.5}
    jsonschema_rs.validate(json.loads((OUTPUTS / "request.schema.json").read_text()), answer)


def test_a_handler_that_failed_for_good_exits_1_with_its_exception(folder: Folder):
    done = ask(folder, "divide", '{"a": 7, "b": 0}')
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: ZeroDivisionError: division by zero\n"
    error = read_answer(ask(folder, "divide", '{"a": 7, "b": 0}', "-o", "json"))
    assert (error["exit_code"], error["error"]["type"]) == (1, "RemoteError")


def test_a_declined_request_exits_1_with_what_the_handler_said(folder: Folder):
    done = ask(folder, "divide", '{"a": 0, "b": 0}')
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'error: undefined: zero by zero {"a": 0}\n'
    error = read_answer(ask(folder, "divide", '{"a": 0, "b": 0}', "-o", "json"))
    jsonschema_rs.validate(json.loads((OUTPUTS / "error.schema.json").read_text()), error)
    assert error["remote"] == {"type": "undefined", "text": "zero by zero", "data": {"a": 0}}


def test_no_reply_in_time_exits_7(folder: Folder):
    done = ask(folder, "silence", '{"a": 7, "b": 2}', "--timeout", "50ms")
    assert (done.returncode, done.stdout) == (7, "")
    assert "no reply to silence within 0.05 s" in done.stderr
    error = read_answer(ask(folder, "silence", '{"a": 7, "b": 2}', "--timeout", "50ms", "-o", "json"))
    jsonschema_rs.validate(json.loads((OUTPUTS / "error.schema.json").read_text()), error)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("divide", '{"a": 7}'), 3, "is missing required key 'b'"),
        (("divide", "{"), 3, "message is invalid"),
        (("devide", "{}"), 3, "did you mean 'divide'?"),
        (("calculations", '{"a": 7, "b": 2}'), 64, "nobody answers at 'calculations'"),
        (("divide", '{"a": 7, "b": 2}', "--timeout", "soon"), 64, "timeout: "),
        (("divide",), 64, "say what to ask"),
        (("divide", '{"a": 7, "b": 2}', "--header", "replyto=me"), 3, "is set by leanmq itself"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    folder: Folder, words: tuple[str, ...], code: int, said: str
):
    done = ask(folder, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
