"""What commands print with `-o json` is what `docs/output/` says, when they succeed and when they fail."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import psutil
import pytest

from leanmq_topology.brokers.embedded.launcher import stop
from leanmq_topology.cli.main import COMMANDS, leanmq, main
from tests.support.commands import LEANMQ, Done, own_environ, read_answer
from tests.support.processes import wait_until
from tests.support.servers import Server
from tests.support.shop import Shop

ROOT = Path(__file__).parents[2]
SCHEMAS = {
    path.name.removesuffix(".schema.json"): json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "docs" / "output").glob("*.schema.json"))
}


def list_commands(group: click.Group = leanmq, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and sub-command that takes `-o`."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from list_commands(command, (*above, name))
        elif command is not None and any("-o" in param.opts for param in command.params):
            yield (*above, name)


WITH_OUTPUT = list(list_commands())


def command_of(words: tuple[str, ...]) -> tuple[str, ...]:
    """The command and sub-command at the head of a command line."""
    [found] = (command for command in WITH_OUTPUT if words[: len(command)] == command)
    return found


def schema_of(command: tuple[str, ...]) -> str:
    """`dlq replay` has a schema of its own, `dlq-replay`; `server start` shares that of its group."""
    own = "-".join(command)
    return own if own in SCHEMAS else command[0]


def check_answer(done: Done, name: str, code: int) -> dict[str, Any]:
    """The answer, once it is known to be of this schema, alone on stdout and with this exit code."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    answer = read_answer(done)
    assert answer["schema"] == f"leanmq.{name}/v1", answer
    jsonschema_rs.validator_for(SCHEMAS[name]).validate(answer)
    if name == "error":
        assert answer["exit_code"] == code
    return answer


# -- the schemas themselves --------------------------------------------------------------------------------


def test_every_command_with_an_output_option_has_a_schema():
    assert {schema_of(command) for command in WITH_OUTPUT} | {"error"} == set(SCHEMAS)
    assert {command[0] for command in WITH_OUTPUT} <= set(COMMANDS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_and_describes_every_property(name: str):
    schema = SCHEMAS[name]
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for described in (schema, *properties(schema)):
        assert described["description"].endswith("."), described


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_lets_nothing_through_that_it_does_not_name(name: str):
    validator = jsonschema_rs.validator_for(SCHEMAS[name])
    assert not validator.is_valid({"schema": f"leanmq.{name}/v1", "surprise": 1})
    assert not validator.is_valid({"schema": f"leanmq.{name}/v2"})


def properties(schema: Any) -> Iterator[dict[str, Any]]:
    """Every property at any depth, outside conditions."""
    if isinstance(schema, list):
        for item in schema:
            yield from properties(item)
    elif isinstance(schema, dict):
        yield from schema.get("properties", {}).values()
        for key, value in schema.items():
            if key not in {"if", "then", "else"}:
                yield from properties(value.values() if key == "properties" else value)


# -- success -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Applied, with one order in `emails` and nothing in `billing`."""
    found = Shop(tmp_path_factory.mktemp("shop"), valkey.url, f"t{secrets.token_hex(6)}").open()
    assert found.leanmq("apply").returncode == 0
    assert found.leanmq("send", "emails", '{"total": 50}').returncode == 0
    return found


SUCCESSES = [
    ("validate",),
    ("validate", "--strict", "--handlers"),
    ("render",),
    ("graph",),
    ("explain", "LMQ203"),
    ("explain", "queues.billing"),
    ("explain", "routes.orders"),
    ("explain", "broker.namespace"),
    ("plan",),
    ("plan", "-f", "unapplied.yaml"),
    ("apply",),
    ("apply", "--dry-run", "-f", "unapplied.yaml"),
    ("history",),
    ("history", "--limit", "1"),
    ("send", "emails", "--example"),
    ("send", "emails", "@lines.ndjson", "--ndjson"),
    ("pub", "news", '{"text": "open"}'),
    ("status",),
    ("workers",),
    ("top", "--every", "50ms"),
    ("peek", "emails"),
    ("tail", "emails", "--since", "1h", "--limit", "1"),
    ("dlq", "list"),
    ("dlq", "stats"),
    ("dlq", "export"),
    ("dlq", "replay"),
    ("dlq", "discard"),
    ("purge", "billing"),
    ("pause", "billing"),
    ("resume", "--all"),
    ("adopt", "--from", "leanmq", "--prefix", "old:", "--dry-run"),
    ("doctor",),
    ("server", "status"),
    ("server", "stop"),
    ("init", "fresh"),
    ("version",),
]


@pytest.mark.parametrize("words", SUCCESSES, ids=" ".join)
def test_an_answer_is_as_documented(shop: Shop, words: tuple[str, ...]):
    answer = check_answer(shop.leanmq(*words, "-o", "json"), schema_of(command_of(words)), 0)
    if words == ("render",):
        topology_schema = json.loads((ROOT / "schemas" / "topology.schema.json").read_text(encoding="utf-8"))
        jsonschema_rs.validator_for(topology_schema).validate(answer["topology"])


def test_a_worker_and_what_it_leaves_are_told_as_documented(valkey: Server, namespace: str, tmp_path: Path):
    shop = Shop(tmp_path, valkey.url, namespace).open()
    check_answer(shop.leanmq("apply", "-o", "json"), "apply", 0)
    check_answer(shop.leanmq("send", "orders", '{"total": 50}', "-o", "json"), "send", 0)
    worker = subprocess.Popen(
        [*LEANMQ, "run", "-o", "json"], cwd=tmp_path, env=own_environ(valkey.url),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: count_dead(shop) == 1, "the dead letter", seconds=60)
        [listed] = check_answer(shop.leanmq("status", "-o", "json"), "status", 0)["workers"]
        assert listed["pid"] in [child.pid for child in psutil.Process(worker.pid).children()]
    finally:
        worker.send_signal(signal.SIGTERM)
        told, said = worker.communicate(timeout=40)
    done = check_answer(Done("run", worker.returncode, told, said), "run", 0)
    assert (done["handled"], done["dead_lettered"], done["clean"]) == (1, 1, True)
    [letter] = check_answer(shop.leanmq("dlq", "list", "-o", "json"), "dlq", 0)["messages"]
    assert (letter["reason"], letter["error"]["message"]) == ("rejected", "the card is unknown")
    check_moves(shop, letter["id"])


def test_what_was_developed_is_told_as_documented(valkey: Server, namespace: str, tmp_path: Path):
    shop = Shop(tmp_path, valkey.url, namespace).open()
    command = subprocess.Popen(
        [*LEANMQ, "dev", "-o", "json"], cwd=tmp_path, env=own_environ(valkey.url),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: shop.leanmq("status", "-o", "json").returncode == 0, "the apply", seconds=40)
        wait_until(lambda: len(read_answer(shop.leanmq("status", "-o", "json"))["workers"]), "it", seconds=40)
    finally:
        command.send_signal(signal.SIGTERM)
        told, said = command.communicate(timeout=40)
    assert check_answer(Done("dev", command.returncode, told, said), "dev", 0)["clean"]


def check_moves(shop: Shop, id: str) -> None:
    """Everything that is done to a dead letter, and to a queue with a message, is told as documented."""
    check_answer(shop.leanmq("dlq", "show", id, "-o", "json"), "dlq", 0)
    [traced] = check_answer(shop.leanmq("trace", id, "-o", "json"), "trace", 0)["messages"]
    assert (traced["state"], traced["reason"], traced["undo_until"]) == ("dead", "rejected", None)
    [group] = check_answer(shop.leanmq("dlq", "stats", "-o", "json"), "dlq-stats", 0)["groups"]
    assert (group["queue"], group["count"]) == ("billing", 1)
    check_answer(shop.leanmq("dlq", "discard", "--dry-run", "-o", "json"), "dlq-discard", 0)
    check_answer(shop.leanmq("dlq", "replay", "-o", "json"), "error", 4)
    moved = check_answer(shop.leanmq("dlq", "replay", "--id", id, "--id", "x", "-o", "json"), "dlq-replay", 1)
    assert [row["result"] for row in moved["results"]] == ["replayed", "unknown"]
    check_answer(shop.leanmq("trace", id, "-o", "json"), "trace", 0)
    [waiting] = check_answer(shop.leanmq("peek", "billing", "-o", "json"), "peek", 0)["messages"]
    assert (waiting["id"], waiting["state"]) == (id, "ready")
    check_answer(shop.leanmq("purge", "billing", "-o", "json"), "error", 4)
    gone = check_answer(shop.leanmq("purge", "billing", "--yes", "-o", "json"), "purge", 0)["purged"]
    assert gone["billing"]["ready"] == 1
    [taken] = check_answer(shop.leanmq("trace", id, "-o", "json"), "trace", 0)["messages"]
    assert taken["undo_until"] > taken["since"]
    back = check_answer(shop.leanmq("purge", "--undo", "billing", "-o", "json"), "purge", 0)
    assert back["restored"] == {"billing": 1}


def test_what_is_heard_is_told_as_documented(shop: Shop):
    listening = subprocess.Popen(
        [*LEANMQ, "sub", "news", "--count", "1", "-o", "json"], cwd=shop.folder, env=own_environ(shop.url),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert listening.stderr is not None
        assert "listening to news" in listening.stderr.readline()
        told = check_answer(shop.leanmq("pub", "news", '{"text": "open"}', "-o", "json"), "pub", 0)
        assert told == {"schema": "leanmq.pub/v1", "published": 1, "receivers": 1}
        told, said = listening.communicate(timeout=60)
    finally:
        listening.kill()
    heard = check_answer(Done("sub", listening.returncode, told, said), "sub", 0)
    assert (heard["channel"], heard["data"]) == ("news", {"text": "open"})


def count_dead(shop: Shop) -> int:
    return int(read_answer(shop.leanmq("status", "-o", "json"))["queues"]["billing"]["dead"])


def test_the_embedded_broker_is_told_as_documented(tmp_path: Path):
    shop = Shop(tmp_path, "embedded:", "shop")
    try:
        for verb in ("start", "status", "url"):
            assert check_answer(shop.leanmq("server", verb, "-o", "json"), "server", 0)["running"]
    finally:
        stop(tmp_path, force=True)
    assert not check_answer(shop.leanmq("server", "status", "-o", "json"), "server", 0)["running"]


def test_every_command_with_an_output_option_is_seen_to_succeed():
    with_others = {("trace",), ("dlq", "show"), ("request",), ("sub",)}
    elsewhere = {*with_others, ("run",), ("dev",), ("server", "start"), ("server", "url")}
    assert {command_of(words) for words in SUCCESSES} | elsewhere == set(WITH_OUTPUT)


# -- failure -----------------------------------------------------------------------------------------------

NOWHERE = ("--url", "unix:///nowhere/at/all")
FAILURES: list[tuple[tuple[str, ...], str, int]] = [
    (("validate", "broken.yaml"), "validate", 3),
    (("validate", "nowhere.yaml"), "validate", 3),
    (("render", "broken.yaml"), "error", 3),
    (("plan", "broken.yaml"), "error", 3),
    (("apply", "-f", "broken.yaml"), "error", 3),
    (("explain", "queues.billing", "-f", "broken.yaml"), "error", 3),
    (("explain", "LMQ999"), "error", 64),
    (("send", "nobody", "{}"), "error", 3),
    (("send", "billing", '{"total": "much"}'), "error", 3),
    (("dlq", "list", "nobody"), "error", 3),
    (("dlq", "show", "nobody"), "error", 1),
    (("dlq", "replay", "--id", "nobody"), "dlq-replay", 1),
    (("dlq", "discard", "--id", "nobody"), "dlq-discard", 1),
    (("purge", "nobody"), "error", 3),
    (("purge", "--undo", "billing"), "error", 4),
    (("pause", "nobody"), "error", 3),
    (("peek", "nobody"), "error", 3),
    (("trace", "nobody"), "error", 1),
    (("trace", "nobody", "-f", "unapplied.yaml"), "error", 4),
    (("tail", "nobody"), "error", 3),
    (("tail", "--for", "20ms", "--limit", "9"), "error", 7),
    (("plan", *NOWHERE), "error", 5),
    (("apply", *NOWHERE), "error", 5),
    (("send", "billing", "--example", *NOWHERE), "error", 5),
    (("run", *NOWHERE), "error", 5),
    (("pub", "news", "{}", *NOWHERE), "error", 5),
    (("pub", "news", "[1]"), "error", 3),
    (("pub", "billing", "{}"), "error", 64),
    (("sub", "news", *NOWHERE), "error", 5),
    (("sub", "news", "--count", "1", "--for", "50ms"), "error", 7),
    (("dev", *NOWHERE), "error", 5),
    (("status", *NOWHERE), "error", 5),
    (("top", *NOWHERE), "error", 5),
    (("dlq", "list", *NOWHERE), "error", 5),
    (("doctor", *NOWHERE), "doctor", 5),
    (("doctor", "broken.yaml"), "error", 64),
    (("adopt", "nowhere.yaml", "--from", "leanmq", "--prefix", "old:"), "error", 64),
    (("adopt", "--from", "leanmq", "--prefix", "old:", *NOWHERE), "error", 5),
    (("server", "url"), "error", 5),
    (("init",), "error", 1),
    (("run", "-f", "unapplied.yaml"), "error", 4),
    (("send", "billing", "--example", "-f", "unapplied.yaml"), "error", 4),
    (("status", "-f", "unapplied.yaml"), "error", 4),
    (("top", "-f", "unapplied.yaml"), "error", 4),
    (("dlq", "list", "-f", "unapplied.yaml"), "error", 4),
]


@pytest.mark.parametrize(("words", "name", "code"), FAILURES, ids=[" ".join(row[0]) for row in FAILURES])
def test_a_failure_is_as_documented(
    shop: Shop,
    words: tuple[str, ...],
    name: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    if words[0] in {"run", "dev"}:  # imports the handlers and sets the log up: in a process of its own
        check_answer(shop.leanmq(*words, "-o", "json"), name, code)
        return
    monkeypatch.chdir(shop.folder)
    monkeypatch.setenv("LEANMQ_URL", shop.url)
    with pytest.raises(SystemExit) as ended:
        main([*words, "-o", "json"])
    assert isinstance(ended.value.code, int)
    check_answer(Done(words, ended.value.code, *capsys.readouterr()), name, code)


@pytest.mark.parametrize("words", WITH_OUTPUT, ids=" ".join)
def test_a_usage_error_is_as_documented(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--no-such-option", "-o", "json"])
    assert isinstance(ended.value.code, int)
    answer = check_answer(Done(words, ended.value.code, *capsys.readouterr()), "error", 64)
    assert answer["error"]["type"] == "UsageError"


def test_a_blocked_plan_is_still_a_plan_and_a_blocked_apply_an_error(
    valkey: Server, namespace: str, tmp_path: Path
):
    shop = Shop(tmp_path, valkey.url, namespace).open()
    shop.leanmq("apply")
    shop.leanmq("send", "billing", "--example")
    shop.write(required="total, vat")
    planned = check_answer(shop.leanmq("plan", "-o", "json"), "plan", 4)
    assert planned["summary"]["blocked"] == 1
    assert any(change["blocked_by"] for change in planned["changes"])
    check_answer(shop.leanmq("apply", "--dry-run", "-o", "json"), "apply", 4)
    refused = check_answer(shop.leanmq("apply", "--yes", "-o", "json"), "error", 4)
    assert refused["error"]["type"] == "BlockedChangeError"
