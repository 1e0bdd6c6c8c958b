"""Is a server fit for messages? Every judgement, from facts alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.examination import Finding, Verdict, insist
from leanmq_topology.brokers.redis import checks
from leanmq_topology.brokers.redis.calls import Refused
from leanmq_topology.brokers.redis.checks import RedisExamination
from leanmq_topology.brokers.redis.facts import ServerFacts, read_facts
from leanmq_topology.errors import BrokerRefusedError
from leanmq_topology.topology.durability import DISK, MEMORY, Durability

FIT = ServerFacts(
    product="valkey",
    version="9.1.2",
    eviction_policy="noeviction",
    append_only=True,
    fsync="always",
    fsync_rests_on_rewrite=False,
    waits_for_disk=True,
    snapshots="",
    replicas=1,
    replica_lag_seconds=0,
)
OLD = replace(FIT, product="redis", version="6.2.20", waits_for_disk=False, replicas=0)
REPLICATED, BOTH = Durability.parse("replicated:1"), Durability.parse("replicated_disk:1")


def judge(seen: ServerFacts, level: Durability) -> Finding:
    return RedisExamination(seen).judge(level)


@pytest.mark.parametrize("level", [MEMORY, DISK, REPLICATED, BOTH], ids=str)
def test_a_server_that_is_set_up_for_it_gives_every_level(level: Durability):
    assert judge(FIT, level).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("seen", "level", "text", "mend"),
    [
        (replace(FIT, append_only=False), DISK, "append-only file, which is off", "appendonly yes"),
        (replace(FIT, append_write_ok=False), DISK, "last write .* failed", "disk space"),
        (replace(FIT, fsync="no"), BOTH, "never confirmed", "appendfsync always"),
        (replace(FIT, replicas=0), REPLICATED, "needs that many replicas in step, and none is", "REPLICAOF"),
        (FIT, Durability.parse("replicated:3"), "needs that many replicas in step, and 1 is", "REPLICAOF"),
        (
            replace(OLD, fsync="everysec"),
            DISK,
            "below Redis 7.2, so disk needs .* it is everysec",
            "appendfsync always",
        ),
        (replace(OLD, fsync=None), DISK, "it is not shown", "allow CONFIG GET"),
        (replace(OLD, fsync_rests_on_rewrite=True), DISK, "does not hold while", "on-rewrite no"),
        (replace(OLD, replicas=1), BOTH, "needs WAITAOF, which redis 6.2.20 does not have", "7.2 or newer"),
        (replace(FIT, fsync="everysec"), DISK, "valkey 9.1.2 confirms too early", "appendfsync always"),
        (replace(FIT, fsync=None), BOTH, "confirms too early .* not shown", "allow CONFIG GET"),
        (replace(FIT, fsync_rests_on_rewrite=True), DISK, "does not hold while", "on-rewrite no"),
    ],
)
def test_a_level_that_cannot_be_confirmed_is_refused_with_what_mends_it(
    seen: ServerFacts, level: Durability, text: str, mend: str
):
    with pytest.raises(BrokerRefusedError, match=text) as caught:
        insist(RedisExamination(seen), [MEMORY, level], where="here")
    assert mend in (caught.value.hint or "")


def test_below_7_2_a_server_that_writes_before_each_answer_gives_disk():
    assert judge(OLD, DISK).verdict is Verdict.OK
    assert judge(replace(OLD, replicas=1), REPLICATED).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("product", "version", "trusted"),
    [
        ("redis", "7.2.4", True),
        ("redis", "7.4.0", False),
        ("redis", "7.4.7", False),
        ("redis", "8.0.0", True),
        ("redis", "8.2.1", True),
        ("valkey", "7.2.11", True),
        ("valkey", "8.0.0", False),
        ("valkey", "9.1.2", False),
    ],
)
def test_disk_with_everysec_is_given_where_waitaof_waits(product: str, version: str, trusted: bool):
    seen = replace(FIT, fsync="everysec", product=product, version=version)
    assert judge(seen, DISK).verdict is (Verdict.WARNING if trusted else Verdict.FAILED)
    assert judge(replace(seen, fsync="always"), DISK).verdict is Verdict.OK
    assert RedisExamination(seen).shows_disk_writes is not trusted


def test_disk_with_everysec_is_accepted_with_a_warning(caplog: pytest.LogCaptureFixture):
    seen = replace(FIT, fsync="everysec", product="redis", version="8.2.0")
    assert judge(seen, DISK).verdict is Verdict.WARNING
    insist(RedisExamination(seen), [DISK, DISK], where="here")
    assert [record.getMessage().count("waits up to a second") for record in caplog.records] == [1]


def test_a_server_names_the_levels_it_gives():
    assert RedisExamination(FIT).offers == (DISK, REPLICATED)
    assert RedisExamination(replace(FIT, append_only=False)).offers == (REPLICATED,)
    assert RedisExamination(replace(OLD, fsync="everysec")).offers == ()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl", "volatile-lfu"])
def test_a_server_that_would_delete_messages_unseen_is_refused_whatever_the_level(policy: str):
    with pytest.raises(BrokerRefusedError, match=f"maxmemory-policy is {policy}") as caught:
        insist(RedisExamination(replace(FIT, eviction_policy=policy)), [], where="here")
    assert "CONFIG SET maxmemory-policy noeviction" in (caught.value.hint or "")


def test_a_server_that_hides_its_policy_is_taken_with_a_warning(caplog: pytest.LogCaptureFixture):
    insist(RedisExamination(replace(FIT, eviction_policy=None)), [], where="here")
    assert "does not show maxmemory-policy" in caplog.text


def test_everything_at_fault_is_named_at_once():
    seen = replace(FIT, eviction_policy="allkeys-lru", append_only=False, replicas=0)
    with pytest.raises(BrokerRefusedError) as caught:
        insist(RedisExamination(seen), [DISK, REPLICATED], where="here")
    assert all(word in str(caught.value) for word in ("allkeys-lru", "append-only", "replicas"))


@pytest.mark.parametrize(
    ("product", "version", "verdict"),
    [
        ("redis", "6.2.19", Verdict.FAILED),
        ("redis", "6.2.20", Verdict.OK),
        ("redis", "7.0.4", Verdict.FAILED),
        ("redis", "7.0.15", Verdict.WARNING),
        ("redis", "7.2.10", Verdict.FAILED),
        ("redis", "8.0.4", Verdict.OK),
        ("redis", "8.6.3", Verdict.OK),
        ("valkey", "8.1.3", Verdict.FAILED),
        ("valkey", "9.1.2", Verdict.OK),
        ("redis", "8", Verdict.OK),
    ],
)
def test_known_bad_versions_are_named(product: str, version: str, verdict: Verdict):
    found = checks.check_version(replace(FIT, product=product, version=version))
    assert found.verdict is verdict
    assert (found.mend is None) == (verdict is Verdict.OK)


@pytest.mark.parametrize(
    ("check", "changes", "verdict", "text"),
    [
        (checks.check_role, {"role": "slave"}, Verdict.FAILED, "replica"),
        (checks.check_memory, {"used_memory": 50, "maxmemory": 0}, Verdict.OK, "no limit"),
        (checks.check_memory, {"used_memory": 50, "maxmemory": 100}, Verdict.OK, "50%"),
        (checks.check_memory, {"used_memory": 80, "maxmemory": 100}, Verdict.WARNING, "80%"),
        (checks.check_memory, {"used_memory": 100, "maxmemory": 100}, Verdict.FAILED, "are refused"),
        (checks.check_persistence, {}, Verdict.OK, "appendfsync always"),
        (checks.check_persistence, {"append_write_ok": False}, Verdict.FAILED, "failed"),
        (
            checks.check_persistence,
            {"append_only": False, "snapshots": "60 1"},
            Verdict.WARNING,
            "snapshots only",
        ),
        (checks.check_persistence, {"append_only": False}, Verdict.WARNING, "loses every message"),
        (
            checks.check_persistence,
            {"append_only": False, "snapshot_ok": False},
            Verdict.FAILED,
            "last snapshot",
        ),
        (checks.check_persistence, {"append_only": None}, Verdict.WARNING, "does not show"),
        (checks.check_replicas, {"replica_lag_seconds": 11}, Verdict.WARNING, "11 s behind"),
        (checks.check_replicas, {"replicas": 0}, Verdict.OK, "none"),
        (checks.check_clock, {"clock_offset_ms": -2000}, Verdict.OK, "agree"),
        (checks.check_clock, {"clock_offset_ms": -2001}, Verdict.WARNING, "2.0 s behind ours"),
        (checks.check_clock, {"clock_offset_ms": 3_600_000}, Verdict.WARNING, "3600.0 s ahead"),
        (checks.check_settings, {"settings_hidden": True}, Verdict.WARNING, "not allowed"),
        (checks.check_client_eviction, {"client_memory_limit": "5%"}, Verdict.OK, "on"),
        (
            checks.check_client_eviction,
            {"client_memory_limit": "5%", "product": "redis", "version": "8.6.2"},
            Verdict.WARNING,
            "CVE-2026-23479",
        ),
    ],
)
def test_each_check_says_what_it_saw_and_what_mends_it(check, changes, verdict: Verdict, text: str):
    found = check(replace(FIT, **changes))
    assert found.verdict is verdict
    assert text in found.text
    assert (found.mend is None) == (verdict is Verdict.OK)


def test_a_server_that_says_next_to_nothing_is_read_as_just_that():
    hidden = Refused("NOPERM")
    seen = read_facts(1_000).read([[b"2", b"5000"], hidden, hidden, *[hidden] * 4])
    assert seen == ServerFacts(settings_hidden=True, clock_offset_ms=1_005)
    assert all(found.text for found in RedisExamination(seen).check_server())
