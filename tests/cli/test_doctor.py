"""`leanmq doctor` as it is typed: what it finds, what it advises, how it exits."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import leanmq, read_answer
from tests.support.replication import ask
from tests.support.servers import Server, require_binary
from tests.support.shop import Shop


@pytest.fixture(scope="module")
def durable() -> Iterator[Server]:
    binary = require_binary("valkey9")
    server = Server("valkey9", binary, arguments=("--appendonly", "yes", "--appendfsync", "always")).start()
    yield server
    server.stop()


@pytest.fixture
def shop(durable: Server, tmp_path: Path) -> Shop:
    return Shop(tmp_path, durable.url, f"t{secrets.token_hex(6)}").open()


def findings(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["check"]: found for found in answer["findings"]}


def test_a_healthy_place_exits_0_and_says_so(shop: Shop):
    assert shop.leanmq("apply").returncode == 0
    done = shop.leanmq("doctor")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "16 ok, 0 warning, 0 failed."
    assert "ok       eviction           a full server refuses new messages and deletes none" in lines


def test_a_user_who_may_not_publish_is_told_what_that_delays(shop: Shop, durable: Server):
    assert shop.leanmq("apply").returncode == 0
    ask(durable, "ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "resetchannels")
    url = durable.url.replace("unix://", "unix://mute:secret@").replace("redis://", "redis://mute:secret@")
    answer = read_answer(shop.leanmq("doctor", "--url", url, "-o", "json"))
    found = findings(answer)["doorbell"]
    assert found["verdict"] == "warning"
    assert "five seconds late" in found["text"]
    assert "+publish" in found["mend"]


def test_warnings_alone_exit_0_with_what_mends_them(shop: Shop):
    done = shop.leanmq("doctor")
    assert done.returncode == 0
    at = next(at for at, line in enumerate(done.stdout.splitlines()) if line.startswith("warning  topology"))
    assert done.stdout.splitlines()[at + 1].strip() == "-> leanmq apply"


def test_a_failed_check_exits_1_and_its_mend_mends_it(shop: Shop, durable: Server):
    ask(durable, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    done = shop.leanmq("doctor", "-o", "json")
    assert done.returncode == 1
    found = findings(read_answer(done))["eviction"]
    assert found["verdict"] == "failed"
    ask(durable, *found["mend"].partition(",")[0].split())
    assert shop.leanmq("doctor").returncode == 0


def test_a_level_the_server_cannot_give_is_told_with_what_mends_it(shop: Shop):
    path = shop.folder / "topology.yaml"
    path.write_text(path.read_text() + "broker: {durability: replicated:1}\n")
    found = findings(read_answer(shop.leanmq("doctor", "-o", "json")))["durability replicated:1"]
    assert found["verdict"] == "failed"
    assert "none is connected" in found["text"]


def test_the_namespace_is_judged_by_what_is_in_it(shop: Shop, durable: Server):
    shop.leanmq("apply")
    shop.leanmq("send", "emails", "--example")
    ask(durable, "XGROUP", "DESTROY", f"{{{shop.namespace}}}:q:billing", "g")
    done = shop.leanmq("doctor", "-o", "json")
    answer = read_answer(done)
    assert done.returncode == 1
    assert "billing" in findings(answer)["queues"]["text"]
    assert "emails 1" in findings(answer)["workers"]["text"]
    assert answer["summary"]["failed"] == 1


def test_a_server_that_is_not_there_is_a_finding_and_exits_5(tmp_path: Path):
    shop = Shop(tmp_path, "unix:///nowhere/at/all", "shop").open()
    done = shop.leanmq("doctor", "-o", "json")
    answer = read_answer(done)
    assert done.returncode == 5
    assert answer["server"] is None
    assert findings(answer)["connection"]["mend"]


def test_the_embedded_broker_is_named(tmp_path: Path):
    shop = Shop(tmp_path, "embedded:", "shop").open()
    done = leanmq("doctor", folder=shop.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("embedded broker, pid ")
    assert str(tmp_path / ".leanmq") in done.stdout.splitlines()[0]


@pytest.fixture
def evicting(durable: Server) -> Iterator[None]:
    ask(durable, "CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    yield
    ask(durable, "CONFIG", "SET", "maxmemory-policy", "noeviction")


@pytest.mark.parametrize("words", [("apply",), ("send", "emails", "--example"), ("run",)], ids=" ".join)
@pytest.mark.usefixtures("evicting")
def test_nothing_is_entrusted_to_a_server_that_evicts(shop: Shop, words: tuple[str, ...]):
    done = shop.leanmq(*words)
    assert done.returncode == 5
    assert "maxmemory-policy is volatile-lru" in done.stderr
    assert "CONFIG SET maxmemory-policy noeviction" in done.stderr


def test_a_server_that_evicts_can_still_be_looked_at(shop: Shop, durable: Server):
    assert shop.leanmq("apply").returncode == 0
    ask(durable, "CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    try:
        assert shop.leanmq("status").returncode == 0
        assert shop.leanmq("plan").returncode == 0
    finally:
        ask(durable, "CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_plan_tells_what_a_level_covers_and_whether_the_server_gives_it(shop: Shop):
    told = shop.leanmq("plan").stdout
    assert told.rstrip().endswith("copied elsewhere. This server could give disk.")
    (shop.folder / "prod.yaml").write_text("broker: {durability: replicated:1}\n")
    told = shop.leanmq("plan", "-f", "topology.yaml", "-f", "prod.yaml").stdout
    assert (
        "This server cannot give it now: replicated:1 needs that many replicas in step, and none is" in told
    )
