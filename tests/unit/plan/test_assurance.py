"""What a plan says about durability: each level once, and how it stands with the server at hand."""

from __future__ import annotations

from leanmq_topology.brokers.redis.checks import RedisExamination
from leanmq_topology.brokers.redis.facts import ServerFacts
from leanmq_topology.operations.assurance import assure
from leanmq_topology.plan.assurance import describe_assurance
from leanmq_topology.topology.durability import DISK, MEMORY, Durability
from leanmq_topology.topology.model import BrokerSettings, Queue, Topology

FIT = ServerFacts(append_only=True, waits_for_disk=True, fsync="always", replicas=1)


def declare(durability: str, **queues: str | None) -> Topology:
    return Topology(
        name="shop",
        broker=BrokerSettings(namespace="shop", durability=durability),
        queues={name: Queue(name=name, durability=level) for name, level in queues.items()},
    )


def test_memory_names_what_it_loses_and_what_the_server_could_give():
    [line] = assure(declare("memory", a=None), RedisExamination(FIT))
    assert line.startswith("Durability memory: a server that stops abruptly may lose messages")
    assert line.endswith("This server could give disk or replicated:1.")
    [bare] = assure(declare("memory"), RedisExamination(ServerFacts()))
    assert "could give" not in bare


def test_each_level_is_told_once_with_the_queues_that_ask_for_it():
    lines = assure(
        declare("disk", a="replicated:1", b="replicated:1", c="disk", d=None), RedisExamination(FIT)
    )
    assert [line.partition(": ")[0] for line in lines] == [
        "Durability disk (c)",
        "Durability replicated:1 (a, b)",
    ]
    assert "not the loss of its disk" in lines[0]
    assert "if a replica that has it takes over" in lines[1]


def test_a_level_the_server_cannot_give_is_told_with_what_mends_it():
    [line] = assure(declare("disk"), RedisExamination(ServerFacts(append_only=False)))
    assert "This server cannot give it now: disk needs the append-only file, which is off (CONFIG SET" in line


def test_many_queues_are_cut_short():
    [line] = describe_assurance({DISK: [f"q{n}" for n in range(9)]}, offers=[Durability(replicas=1)])
    assert "Durability disk (q0, q1, q2, q3, q4, …):" in line
    assert "could give" not in line
    assert describe_assurance({MEMORY: []})[0].count("Durability") == 1
