"""`leanmq adopt --from leanmq`: what the package left is taken over, once, whatever kills it on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from leanmq_topology import LeanMQ
from tests.classic.conftest import Place
from tests.support.old_layout import OldLeanMQ

MOST_KILLS = 200


@pytest.fixture
def client(place: Place) -> Iterator[redis.Redis]:
    with redis.Redis(port=place.port) as opened:
        yield opened


@pytest.fixture
def old(client: redis.Redis, place: Place) -> OldLeanMQ:
    return leave_behind(client, place)


def leave_behind(client: redis.Redis, place: Place) -> OldLeanMQ:
    """Under the prefix of `place`: one of everything that can be left behind."""
    found = OldLeanMQ(client, place.prefix)
    found.create_queue_pair("orders")
    sent = [found.send("orders", {"n": number}, message_id=f"m{number}") for number in range(7)]
    found.send("orders", {"n": 7, "_metadata_of_mine": [1.5, 2**53 + 1, {}, []]}, message_id="m7", ttl=3600)
    taken = found.get("orders", 5)
    assert taken == sent[:5]
    found.acknowledge("orders", *taken[:2])
    found.move_to_dlq("orders", taken[2], "bad card")
    found.requeue("orders", found.move_to_dlq("orders", taken[3], "timeout"))
    found.create_queue_pair("empty")
    found.create_queue_pair("responses:1b")
    found.send("responses:1b", {"n": "reply"}, message_id="r")
    client.xadd(f"{place.prefix}orders", {"data": "no json"})
    return found


def adopt(
    place: Place, folder: Path, *words: str, operations: int | None = None
) -> subprocess.CompletedProcess[str]:
    module = ["leanmq_topology.cli.main"]
    if operations is not None:
        module = ["tests.support.dying_adopt", str(operations)]
    return subprocess.run(
        [sys.executable, "-m", *module, "adopt", "--from", "leanmq", "--prefix", place.prefix, *words],
        cwd=folder,
        env={**os.environ, "LEANMQ_URL": place.url, "PYTHONPATH": str(Path(__file__).parents[2])},
        text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def leanmq(place: Place, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leanmq_topology.cli.main", *words],
        cwd=folder,
        env={**os.environ, "LEANMQ_URL": place.url},
        text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def check_all_is_there(place: Place, folder: Path, client: redis.Redis) -> None:
    """Each message once, in its place, as it was sent; nothing is left of the old, and nothing to apply."""
    with LeanMQ(**place.options) as mq:
        orders, dead = mq.get_queue("orders"), mq.get_dead_letter_queue("orders")
        assert orders is not None
        assert dead is not None
        info = orders.get_info()
        # LeanMQ left an acknowledged copy of m2 and of m3. m2 is dead; m3 lives, so its copy is history.
        assert (info.message_count, dead.get_info().message_count) == (8, 2)
        found = {message.message_id: message for message in orders.get_messages(count=50)}
        assert sorted(found) == ["m3", "m4", "m5", "m6", "m7"]
        assert {key: message.data["n"] for key, message in found.items()} == {
            "m3": 3, "m4": 4, "m5": 5, "m6": 6, "m7": 7,
        }  # fmt: skip
        assert found["m7"].data == {"n": 7, "_metadata_of_mine": [1.5, 2**53 + 1, {}, []]}
        assert 3000 < (found["m7"].expires_at or 0) - time.time() <= 3600
        assert (found["m4"].delivery_count, found["m5"].delivery_count) == (2, 1), "m4 was pending"
        assert json.loads(found["m3"].headers["leanmqhistory"])[0]["reason"] == "timeout"
        undecodable, buried = sorted(dead.get_messages(count=5), key=lambda message: message.message_id)
        assert undecodable.message_id == ""
        assert buried.message_id == "m2"
        assert [failure["reason"] for failure in buried.data["_failures"]] == ["bad card"]
        assert buried.delivery_count == 1
        replies = mq.get_queue("responses:1b")
        assert replies is not None
        assert [message.data for message in replies.get_messages(count=5)] == [{"n": "reply"}]
        assert mq.get_queue("empty") is not None
        assert mq.get_queue("empty").get_info().message_count == 0
    assert client.keys(f"{place.prefix}*") == []
    listed = leanmq(place, folder, "dlq", "list").stdout
    assert "manual after 1 attempt" in listed
    assert "\n    bad card\n" in listed
    plan = leanmq(place, folder, "plan", "-o", "json", "--detailed-exitcode")
    if plan.returncode == 64:  # this flag is not there yet
        plan = leanmq(place, folder, "plan", "-o", "json")
    assert plan.returncode == 0, plan.stderr
    summary: dict[str, Any] = json.loads(plan.stdout)["summary"]
    assert not any(count for action, count in summary.items() if action != "unchanged"), summary


def test_everything_is_taken_over_and_the_next_plan_is_empty(
    old: OldLeanMQ, place: Place, tmp_path: Path, client: redis.Redis
):
    done = adopt(place, tmp_path, "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["written"]
    assert told["undeclared"] == ["responses:1b"]
    assert {
        row["queue"]: (row["waiting"], row["kept"], row["dead"], row["dropped"]) for row in told["queues"]
    } == {
        "empty": (0, 0, 0, 0),
        "orders": (5, 3, 2, 1),
        "responses:1b": (1, 0, 0, 0),
    }
    check_all_is_there(place, tmp_path, client)
    again = adopt(place, tmp_path)
    assert again.returncode == 0
    assert "Nothing of LeanMQ" in again.stdout


@pytest.mark.timeout(600)  # thirty processes, one after the other
def test_killed_at_any_operation_it_is_completed_by_the_next_run(valkey_place: Place, tmp_path: Path):
    """Each run gets one operation further than the one before, so that every step is the last of some run."""
    place, kills = valkey_place, 0
    with redis.Redis(port=place.port) as client:
        leave_behind(client, place)
        while (done := adopt(place, tmp_path, operations=kills)).returncode == -signal.SIGKILL:
            kills += 1
            assert kills < MOST_KILLS
            client.delete(f"{{{place.prefix.removesuffix(':')}}}:lock")  # instead of waiting until it lapses
        assert done.returncode == 0, done.stderr
        assert kills >= 10
        check_all_is_there(place, tmp_path, client)


def test_a_dry_run_touches_nothing_and_shows_the_file(
    old: OldLeanMQ, place: Place, tmp_path: Path, client: redis.Redis
):
    before = old.keys_left()
    done = adopt(place, tmp_path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "  orders:" in done.stderr
    assert "3 queues would be adopted" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert old.keys_left() == before
    assert client.keys(f"{{{place.prefix.removesuffix(':')}}}*") == []


def test_a_file_that_is_there_is_kept_and_has_to_declare_what_it_can(
    old: OldLeanMQ, place: Place, tmp_path: Path
):
    file = tmp_path / "topology.yaml"
    text = f"leanmq: 1\nname: {place.prefix.removesuffix(':')}\nqueues:\n  orders: {{keep_acked: 100}}\n"
    file.write_text(text)
    done = adopt(place, tmp_path)
    assert done.returncode == 4
    assert "queues.empty" in done.stderr
    file.write_text(text + "  empty: {}\n")
    done = adopt(place, tmp_path)
    assert done.returncode == 0, done.stderr
    assert file.read_text() == text + "  empty: {}\n"


def test_a_prefix_that_nothing_lies_under_is_an_error(place: Place, tmp_path: Path):
    done = adopt(place, tmp_path)
    assert done.returncode == 64
    assert "nothing of LeanMQ lies under" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_more_messages_than_a_step_moves_all_come_in_their_order(
    place: Place, tmp_path: Path, client: redis.Redis
):
    old = OldLeanMQ(client, place.prefix)
    old.create_queue_pair("orders")
    for number in range(450):
        old.send("orders", {"n": number})
    assert adopt(place, tmp_path).returncode == 0
    with LeanMQ(**place.options) as mq:
        queue = mq.get_queue("orders")
        assert queue is not None
        assert [message.data["n"] for message in queue.get_messages(count=1000)] == list(range(450))


def test_odd_messages_do_not_stop_it(place: Place, tmp_path: Path, client: redis.Redis):
    old = OldLeanMQ(client, place.prefix)
    old.create_queue_pair("orders")
    odd = [
        '{"n": 0, "_metadata": {"id": "endless", "ttl": Infinity}}',
        '{"n": 1, "_metadata": {"id": "\\ud800"}}',
        "[" * 100_000,
    ]
    for body in odd:
        client.xadd(f"{place.prefix}orders", {"data": body})
        client.xadd(f"{place.prefix}orders:dlq", {"data": body})
    old.send("orders", {"n": 3}, message_id="good")
    done = adopt(place, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "orders: 2 waiting, 0 acknowledged, 5 dead" in done.stderr
    with LeanMQ(**place.options) as mq:
        orders = mq.get_queue("orders")
        assert orders is not None
        assert [message.message_id for message in orders.get_messages(count=5)] == ["endless", "good"]
    assert client.keys(f"{place.prefix}*") == []
