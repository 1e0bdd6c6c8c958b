"""`leanmq plan` and `leanmq apply` as people and pipelines meet them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology.brokers.connect import BlockingLink, open_blocking
from tests.support.factories import run
from tests.support.processes import wait_until
from tests.support.servers import Server

TOPOLOGY = """\
leanmq: 1
name: {name}
broker: {{namespace: {namespace}}}
messages:
  placed: {{schema: {{type: object, properties: {{id: {{type: string}}}}{required}}}}}
queues:
  billing: {{accepts: [placed], ttl: 1d, max_length: {max_length}}}
  emails: {{accepts: [placed], ttl: 1d}}
routes:
  events: {{type: fanout, to: {{{targets}}}}}
"""

Leanmq = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def write(tmp_path: Path, namespace: str) -> Callable[..., None]:
    """Write the topology file; the defaults make a plan that anybody may apply."""

    def write(
        name: str = "shop",
        max_length: int = 100,
        targets: str = "billing: {}, emails: {}",
        required: str = "",
    ) -> None:
        (tmp_path / "topology.yaml").write_text(
            TOPOLOGY.format(
                name=name, namespace=namespace, max_length=max_length, targets=targets, required=required
            )
        )

    write()
    return write


@pytest.fixture
def leanmq(tmp_path: Path, valkey: Server) -> Leanmq:
    """Run a command in the folder of the topology, against a real server, with nobody at the terminal."""

    def call(*words: str, url: str = valkey.url) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "leanmq_topology.cli.main", *words],
            cwd=tmp_path,
            env={**os.environ, "LEANMQ_URL": url, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.fixture
def link(valkey: Server, namespace: str) -> Iterator[BlockingLink]:
    with open_blocking(valkey.url, namespace=namespace, folder=Path()) as opened:
        yield opened


def add_messages(link: BlockingLink, count: int) -> None:
    for _ in range(count):
        run(link.connection, "XADD", link.broker.keys.queue("billing"), "*", "data", "{}")


def read_json(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


def test_plan_apply_plan(leanmq: Leanmq, write):
    first, applied, second = leanmq("plan"), leanmq("apply"), leanmq("plan")

    assert [first.returncode, applied.returncode, second.returncode] == [0, 0, 0]
    assert first.stdout.startswith("+ create  messages.placed  version 1\n")
    assert "4 to create." in first.stdout
    assert applied.stdout.endswith("4 changes applied. The namespace is at generation 1.\n")
    assert second.stdout == "No changes: the server matches the file (generation 1).\n"
    assert [first.stderr, applied.stderr, second.stderr] == ["", "", ""]


def test_the_file_may_be_an_argument(leanmq: Leanmq, write, tmp_path: Path):
    (tmp_path / "topology.yaml").rename(tmp_path / "other.yaml")

    assert leanmq("apply", "other.yaml").returncode == 0
    assert leanmq("plan", "other.yaml", "--detailed-exitcode").returncode == 0
    assert leanmq("plan").returncode == 64


def test_the_detailed_exit_code_tells_differences(leanmq: Leanmq, write):
    before = leanmq("plan", "--detailed-exitcode")
    leanmq("apply")
    after = leanmq("plan", "--detailed-exitcode")

    assert (before.returncode, after.returncode) == (2, 0)


def test_json_of_plan_and_apply_has_the_documented_shape(leanmq: Leanmq, write):
    planned, applied = read_json(leanmq("plan", "-o", "json")), read_json(leanmq("apply", "-o", "json"))

    assert planned["schema"] == "leanmq.plan/v1"
    assert set(planned) == {"schema", "summary", "changes", "fingerprint"}
    assert applied["schema"] == "leanmq.apply/v1"
    assert set(applied) == {*planned, "applied", "generation"}
    assert applied["changes"] == planned["changes"]
    assert applied["applied"] == ["messages.placed", "queues.billing", "queues.emails", "routes.events"]
    assert applied["generation"] == 1


def test_markdown_is_for_a_pull_request(leanmq: Leanmq, write):
    assert leanmq("plan", "-o", "markdown").stdout.startswith("<!-- leanmq-plan shop -->\n### LeanMQ plan")


def test_a_dry_run_writes_nothing(leanmq: Leanmq, write, link):
    dry = leanmq("apply", "--dry-run")

    assert dry.returncode == 0
    assert "4 to create." in dry.stdout
    assert "applied" not in dry.stdout
    assert run(link.connection, "EXISTS", link.broker.keys.topology) == 0


def test_a_live_update_is_applied_without_asking(leanmq: Leanmq, write):
    leanmq("apply")
    write(max_length=50)

    updated = leanmq("apply")

    assert updated.returncode == 0
    assert "max_length: 100 -> 50" in updated.stdout


def test_a_risky_change_needs_yes_when_nobody_can_be_asked(leanmq: Leanmq, write, link):
    leanmq("apply")
    add_messages(link, 3)
    write(max_length=2)

    refused, error, approved = leanmq("apply"), leanmq("apply", "-o", "json"), leanmq("apply", "--yes")

    assert (refused.returncode, approved.returncode) == (4, 0)
    assert "LMQ501" in refused.stdout
    assert "--yes" in refused.stderr
    assert read_json(error)["schema"] == "leanmq.error/v1"
    assert read_json(error)["error"]["type"] == "BlockedChangeError"
    assert run(link.connection, "HGET", link.broker.keys.meta("billing"), "max_length") == b"2"


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 4), ("", 4)])
def test_a_risky_change_asks_whoever_is_at_the_terminal(
    leanmq: Leanmq, write, tmp_path, valkey, answer: str, code: int
):
    leanmq("apply")
    write(targets="billing: {}")
    terminal, ours = pty.openpty()
    asked = subprocess.Popen(
        [sys.executable, "-m", "leanmq_topology.cli.main", "apply"],
        cwd=tmp_path,
        env={**os.environ, "LEANMQ_URL": valkey.url},
        stdin=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(terminal, f"{answer}\n".encode())
    _, notes = asked.communicate(timeout=30)
    os.close(terminal)
    os.close(ours)

    assert "Apply this risky change? [y/N]" in notes
    assert asked.returncode == code


def test_a_broken_promise_is_blocked_whoever_approves(leanmq: Leanmq, write, link):
    leanmq("apply")
    add_messages(link, 3)
    write(required=", required: [id]")

    planned, applied = leanmq("plan"), leanmq("apply", "--yes")

    assert (planned.returncode, applied.returncode) == (4, 4)
    assert planned.stdout.startswith("! blocked messages.placed")
    assert "LMQ504" in planned.stdout
    assert "3 ready" in planned.stdout
    assert leanmq("apply", "--dry-run").returncode == 4


def test_an_orphan_is_shown_and_kept(leanmq: Leanmq, write, link, tmp_path: Path):
    leanmq("apply")
    add_messages(link, 2)
    text = (tmp_path / "topology.yaml").read_text()
    (tmp_path / "topology.yaml").write_text(
        "".join(line for line in text.splitlines(True) if "billing:" not in line).replace(
            "routes:", "x-routes:"
        )
    )

    leanmq("apply")
    planned = leanmq("plan", "--detailed-exitcode")

    assert planned.returncode == 2
    assert "- orphan  queues.billing" in planned.stdout
    assert "2 ready" in planned.stdout
    assert run(link.connection, "XLEN", link.broker.keys.queue("billing")) == 2


def test_a_slip_in_what_may_be_lost_is_named_before_anything_is_written(
    leanmq: Leanmq, write, link, tmp_path: Path, namespace: str
):
    assert leanmq("apply").returncode == 0
    add_messages(link, 2)
    smaller = f"leanmq: 1\nname: shop\nbroker: {{namespace: {namespace}}}\nqueues: {{kept: {{ttl: 1d}}}}\n"
    (tmp_path / "topology.yaml").write_text(smaller)
    for wrong, said in (
        ("queues.biling", "did you mean 'queues.billing'?"),
        ("queues.kept", "queues.kept is in the file, so it is not deleted"),
    ):
        refused = leanmq("apply", "--prune", "--yes", "--allow-data-loss", wrong)
        assert (refused.returncode, refused.stdout) == (64, "")
        assert said in refused.stderr
    prune = ("apply", "--prune", "--yes", "--allow-data-loss", "queues.billing")
    assert leanmq(*prune).returncode == 0
    assert leanmq(*prune).returncode == 0, "done already"


def test_a_slip_in_what_may_be_lost_is_named_while_all_there_is_to_do_is_wait(
    leanmq: Leanmq, write, link, tmp_path: Path, namespace: str
):
    head = f"leanmq: 1\nname: shop\nbroker: {{namespace: {namespace}}}\nqueues:\n  kept: {{ttl: 1d}}\n"
    file = tmp_path / "topology.yaml"
    file.write_text(f"{head}  billing: {{ttl: 1d, lifecycle: {{on_remove: drain}}}}\n")
    assert leanmq("apply").returncode == 0
    add_messages(link, 2)
    file.write_text(head)
    prune = ("apply", "--prune", "--yes")
    assert leanmq(*prune).returncode == 0

    refused = leanmq(*prune, "--allow-data-loss", "queues.biling")

    assert (refused.returncode, refused.stdout) == (64, "")
    assert "did you mean 'queues.billing'?" in refused.stderr
    assert leanmq(*prune).returncode == 0
    assert run(link.connection, "XLEN", link.broker.keys.queue("billing")) == 2
    assert leanmq(*prune, "--allow-data-loss", "queues.billing").returncode == 0
    assert run(link.connection, "XLEN", link.broker.keys.queue("billing")) == 0


def test_a_namespace_of_another_topology_is_refused_naming_both(leanmq: Leanmq, write):
    leanmq("apply")
    write(name="warehouse")

    for refused in (leanmq("plan"), leanmq("apply", "--yes")):
        assert refused.returncode == 4
        assert "'shop'" in refused.stderr
        assert "'warehouse'" in refused.stderr


def test_an_invalid_file_exits_3(leanmq: Leanmq, tmp_path: Path):
    (tmp_path / "topology.yaml").write_text("leanmq: 1\nname: shop\nqueus: {}\n")

    assert leanmq("plan").returncode == 3
    assert leanmq("apply").returncode == 3


@pytest.mark.parametrize("text", ["", "# nothing\n", None])
def test_an_empty_or_missing_file_is_an_error_and_never_means_delete_all(
    leanmq: Leanmq, tmp_path: Path, text
):
    if text is not None:
        (tmp_path / "topology.yaml").write_text(text)

    assert leanmq("apply", "topology.yaml", "--yes").returncode in {3, 64}


def test_a_server_that_is_not_there_exits_5(leanmq: Leanmq, write, tmp_path: Path):
    for command in ("plan", "apply"):
        assert leanmq(command, url=f"unix://{tmp_path}/nobody").returncode == 5


def test_a_held_lock_exits_6_and_names_the_holder(leanmq: Leanmq, write, link):
    link.connection.execute(link.broker.take_lock("shop", "ada@laptop", lifetime_ms=60_000))

    refused = leanmq("apply")

    assert refused.returncode == 6
    assert "ada@laptop" in refused.stderr
    assert leanmq("plan").returncode == 0


def test_a_held_lock_that_lapses_lets_the_next_one_in(leanmq: Leanmq, write, link):
    link.connection.execute(link.broker.take_lock("shop", "ada@laptop", lifetime_ms=1))
    wait_until(lambda: not run(link.connection, "EXISTS", link.broker.keys.lock), "the lock's end")

    assert leanmq("apply").returncode == 0


def test_the_record_says_who_applied_and_from_which_commit(leanmq: Leanmq, write, link, tmp_path: Path):
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "shop"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    leanmq("apply")

    applied = link.connection.execute(link.broker.read_record()).resources["queues.billing"]
    assert applied["commit"] == head.stdout.strip()
    assert "@" in applied["by"]
