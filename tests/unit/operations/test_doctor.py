"""A namespace, judged from what was seen of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.examination import Finding, Verdict
from leanmq_topology.brokers.protocol import AppliedRecord, WorkerState
from leanmq_topology.brokers.redis.checks import RedisExamination
from leanmq_topology.brokers.redis.facts import ServerFacts
from leanmq_topology.operations.doctor import Namespace, judge_levels, judge_namespace, judge_transport
from leanmq_topology.plan.live_state import QueueState
from leanmq_topology.topology.durability import DISK, MEMORY
from leanmq_topology.topology.model import DeadLetter, MessageType, Queue
from leanmq_topology.topology.specs import digest, resource_specs
from tests.support.factories import make_topology

SHOP = make_topology("shop", Queue(name="billing"), Queue(name="emails", dead_letter=DeadLetter(alert_at=5)))
RECORD = AppliedRecord(
    owner="shop",
    format=1,
    generation=3,
    epoch="e",
    resources={
        address: {"hash": digest(spec), "spec": spec} for address, spec in resource_specs(SHOP).items()
    },
)
WORKER = WorkerState("w", {"queues": "billing,emails"})


def see(*states: QueueState, record: AppliedRecord = RECORD, workers: tuple[WorkerState, ...] = (WORKER,)):
    found = {name: QueueState(name) for name in ("billing", "emails")} | {
        state.name: state for state in states
    }
    return judge_namespace(Namespace(record, found, workers), SHOP)


def troubles(findings: list[Finding]) -> list[tuple[str, Verdict]]:
    return [(found.check, found.verdict) for found in findings if found.verdict is not Verdict.OK]


def find(findings: list[Finding], check: str) -> Finding:
    [found] = [found for found in findings if found.check == check]
    return found


def test_a_namespace_in_order_has_nothing_to_mend():
    findings = see()
    assert troubles(findings) == []
    assert all(found.mend is None for found in findings)
    assert find(findings, "topology").text == "applied as in the file, generation 3"


def test_nothing_applied_and_another_owner_end_the_look():
    assert troubles(see(record=replace(RECORD, owner=None))) == [("topology", Verdict.WARNING)]
    [taken] = see(record=replace(RECORD, owner="other"))
    assert taken.verdict is Verdict.FAILED
    assert "'other'" in taken.text


def test_what_differs_from_the_file_is_named():
    changed = {**RECORD.resources, "queues.billing": {**RECORD.resources["queues.billing"], "hash": "x"}}
    found = find(see(record=replace(RECORD, resources=changed)), "topology")
    assert "queues.billing" in found.text
    assert find(see(record=replace(RECORD, unfinished="{}")), "topology").text == "an apply was not finished"


def test_what_is_applied_and_declared_no_more_is_an_orphan():
    old = {"hash": "x", "spec": resource_specs(make_topology("x", Queue(name="old")))["queues.old"]}
    found = see(record=replace(RECORD, resources={**RECORD.resources, "queues.old": old}))
    assert troubles(found) == [("orphans", Verdict.WARNING)]
    assert "queues.old" in find(found, "orphans").text


@pytest.mark.parametrize(
    ("state", "text", "mend"),
    [
        (QueueState("old", ready=2, dead=1, state="draining"), "old 3", "run workers with the former file"),
        (QueueState("old", state="draining"), "drained: old", "leanmq apply --prune deletes it"),
    ],
)
def test_a_queue_on_its_way_out_is_no_orphan_to_be_declared_again(state: QueueState, text: str, mend: str):
    """Declaring it again would undo its removal. The types it accepts are kept for its workers."""
    former = make_topology(
        "x", Queue(name="old", accepts=("placed",)), messages=(MessageType(name="placed"),)
    )
    old = {address: {"hash": "x", "spec": spec} for address, spec in resource_specs(former).items()}
    found = see(state, record=replace(RECORD, resources={**RECORD.resources, **old}))
    assert ("orphans", Verdict.WARNING) not in troubles(found)
    assert text in find(found, "draining").text
    assert (find(found, "draining").mend or "").startswith(mend)


@pytest.mark.parametrize(
    ("state", "check", "verdict", "text"),
    [
        (
            QueueState("billing", problem="its consumer group is gone"),
            "queues",
            Verdict.FAILED,
            "billing: its",
        ),
        (QueueState("billing", dead=1), "dead letters", Verdict.WARNING, "billing 1"),
        (QueueState("emails", dead=5), "dead letters", Verdict.WARNING, "emails 5"),
        (QueueState("billing", parked=2), "parked", Verdict.WARNING, "billing 2"),
        (QueueState("billing", state="paused"), "paused", Verdict.WARNING, "billing"),
        (
            QueueState("billing", in_flight=1, oldest_age_seconds=301.5),
            "lag",
            Verdict.WARNING,
            "billing 5m1s",
        ),
    ],
)
def test_each_trouble_is_told_with_its_queue_and_what_mends_it(
    state: QueueState, check: str, verdict: Verdict, text: str
):
    findings = see(state)
    assert troubles(findings) == [(check, verdict)]
    found = find(findings, check)
    assert text in found.text
    assert found.mend


def test_dead_letters_below_their_threshold_are_counted_and_no_trouble():
    findings = see(QueueState("emails", dead=4), QueueState("billing", oldest_age_seconds=299))
    assert troubles(findings) == []
    assert find(findings, "dead letters").text == "4, below every alert_at"


def test_messages_that_no_worker_reads_are_told_also_where_workers_run():
    waiting = QueueState("billing", ready=2, delayed=1)
    assert troubles(see(waiting)) == []
    elsewhere = WorkerState("w", {"queues": "emails"})
    assert "billing 3" in find(see(waiting, workers=(elsewhere,)), "workers").text
    assert troubles(see(workers=())) == [], "an idle namespace needs no worker"


def test_many_names_are_cut_short():
    states = [QueueState(f"q{n}", state="paused") for n in range(8)]
    assert find(see(*states), "paused").text == "not being read: q0, q1, q2, q3, q4 and 3 more"


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("embedded:", Verdict.OK),
        ("unix:///run/valkey.sock", Verdict.OK),
        ("redis://localhost:6379/0", Verdict.OK),
        ("redis://:***@[::1]:6379/0", Verdict.OK),
        ("rediss://queue.example.org:6379/0", Verdict.OK),
        ("redis://:***@queue.example.org:6379/0", Verdict.WARNING),
    ],
)
def test_plain_text_across_a_network_is_a_warning(url: str, verdict: Verdict):
    assert judge_transport(url).verdict is verdict


def test_levels_are_judged_and_memory_tells_what_could_be_had():
    seen = RedisExamination(ServerFacts(append_only=True, waits_for_disk=True, fsync="always", replicas=2))
    memory, disk = judge_levels(seen, {MEMORY: [], DISK: ["billing"]})
    assert memory.text == "the server could give disk or replicated:2"
    assert (disk.check, disk.verdict) == ("durability disk", Verdict.OK)
    [bare] = judge_levels(RedisExamination(ServerFacts()), {MEMORY: []})
    assert bare.verdict is Verdict.OK
