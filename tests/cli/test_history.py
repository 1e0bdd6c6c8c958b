"""`leanmq history` as a person reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from leanmq_topology.brokers.connect import open_blocking
from tests.support.commands import Done
from tests.support.commands import leanmq as run_leanmq
from tests.support.factories import run
from tests.support.servers import Server

TOPOLOGY = """\
leanmq: 1
name: shop
broker: {{namespace: {namespace}, url: "{url}"}}
queues: {{{queues}}}
"""
ROW = re.compile(r"(\d+) +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC +(\S+@\S+) +(-|[0-9a-f]{10}) +(.+)")


@pytest.fixture
def write(tmp_path: Path, namespace: str, valkey: Server) -> Callable[..., None]:
    def write(*queues: str) -> None:
        declared = ", ".join(f"{name}: {{ttl: 1d}}" for name in queues)
        text = TOPOLOGY.format(namespace=namespace, url=valkey.url, queues=declared)
        (tmp_path / "topology.yaml").write_text(text, encoding="utf-8")

    write("billing", "emails")
    return write


@pytest.fixture
def leanmq(tmp_path: Path, write: Callable[..., None]) -> Callable[..., Done]:
    def call(*words: str) -> Done:
        return run_leanmq(*words, folder=tmp_path)

    return call


def rows(done: Done) -> list[tuple[str, ...]]:
    assert done.returncode == 0, done.stderr
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["generation", "when", "who", "commit", "changes"]
    found = [ROW.fullmatch(line) for line in lines]
    assert all(found), done.stdout
    return [match.groups() for match in found if match]


def test_applies_are_listed_newest_first(leanmq, write):
    assert leanmq("apply").returncode == 0
    write("billing", "a", "b", "c", "d")
    assert leanmq("apply", "--prune", "--yes").returncode == 0
    [second, first] = rows(leanmq("history"))
    assert (first[0], first[3]) == ("1", "2 created: queues.billing, queues.emails")
    assert (second[0], second[3]) == ("2", "4 created, 1 deleted: queues.a, queues.b, queues.c, …")
    assert rows(leanmq("history", "--limit", "1")) == [second]


def test_an_apply_with_nothing_to_do_is_not_listed(leanmq):
    assert leanmq("apply").returncode == 0
    assert leanmq("apply").returncode == 0
    assert len(rows(leanmq("history"))) == 1


@pytest.mark.parametrize("queues", [("billing", "emails"), ("billing", "emails", "more")])
def test_an_apply_that_completes_another_says_that_it_did_not_do_all_by_itself(
    leanmq, write, valkey: Server, namespace: str, queues: tuple[str, ...]
):
    assert leanmq("apply").returncode == 0
    with open_blocking(valkey.url, namespace=namespace, folder=Path()) as link:
        keys = link.broker.keys  # type: ignore[attr-defined]
        # as an apply leaves it that was killed before its last step
        for words in ("SET", keys.plan, "generation 1 by x"), ("HDEL", keys.topology, "generation"):
            run(link.connection, *words)  # type: ignore[arg-type]
        run(link.connection, "DEL", keys.history)  # type: ignore[arg-type]
    write(*queues)
    assert leanmq("apply").returncode == 0
    [only] = rows(leanmq("history"))
    said = "completes an apply that did not finish; what that one had done is not counted"
    assert only[3] == {2: said, 3: f"1 created: queues.more; {said}"}[len(queues)]
    [only] = json.loads(leanmq("history", "-o", "json").stdout)["revisions"]
    assert (only["completes"], only["summary"]["create"]) == (True, len(queues) - 2)


def test_programs_get_all_that_is_remembered(leanmq):
    assert leanmq("apply").returncode == 0
    answer = json.loads(leanmq("history", "-o", "json").stdout)
    [only] = answer["revisions"]
    assert answer["generation"] == only["generation"] == 1
    assert only["summary"] == {"create": 2, "update": 0, "delete": 0, "drain": 0, "retain": 0}
    assert only["changes"][0] == {"address": "queues.billing", "action": "create"}
    assert only["completes"] is False


def test_what_was_applied_before_there_was_a_history_is_said_to_be_unknown(
    leanmq, valkey: Server, namespace: str
):
    assert leanmq("apply").returncode == 0
    with open_blocking(valkey.url, namespace=namespace, folder=Path()) as link:
        run(link.connection, "DEL", link.broker.keys.history)  # type: ignore[attr-defined, arg-type]
    done = leanmq("history")
    assert (done.returncode, done.stdout) == (0, "nothing is remembered of the applies so far\n")
    answer = json.loads(leanmq("history", "-o", "json").stdout)
    assert (answer["generation"], answer["revisions"]) == (1, [])


def test_where_nothing_was_applied_there_is_no_history(leanmq):
    done = leanmq("history")
    assert (done.returncode, done.stdout) == (4, "")
    assert "not applied" in done.stderr


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_a_limit_that_cannot_be_is_refused(leanmq, limit: str):
    done = leanmq("history", "--limit", limit)
    assert done.returncode == 64
    assert "'--limit'" in done.stderr
