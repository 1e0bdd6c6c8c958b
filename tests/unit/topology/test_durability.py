"""The order of durability levels, and how they are written."""

from __future__ import annotations

import itertools

import pytest

from leanmq_topology.topology.durability import DISK, MEMORY, Durability, highest

LEVELS = [Durability(disk, replicas) for disk in (False, True) for replicas in (0, 1, 2, 100)]


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("memory", MEMORY),
        ("disk", DISK),
        ("replicated:1", Durability(False, 1)),
        ("replicated_disk:100", Durability(True, 100)),
    ],
)
def test_a_level_is_read_as_it_is_written(text: str, level: Durability):
    assert Durability.parse(text) == level
    assert str(level) == text


def test_every_level_survives_being_written_and_read():
    assert [Durability.parse(str(level)) for level in LEVELS] == LEVELS


@pytest.mark.parametrize(
    "text",
    ["", "Disk", "disk:1", "memory:1", "replicated", "replicated:", "replicated:x", "replicated:-1", " disk"],
)
def test_anything_else_is_refused_with_what_is_allowed(text: str):
    with pytest.raises(ValueError, match="expected memory, disk, replicated:N or replicated_disk:N"):
        Durability.parse(text)


@pytest.mark.parametrize("text", ["replicated:0", "replicated_disk:101"])
def test_a_number_of_replicas_that_cannot_be_is_refused_with_the_range(text: str):
    with pytest.raises(ValueError, match="1 to 100 replicas are allowed"):
        Durability.parse(text)


def test_a_level_covers_another_only_in_every_respect():
    replicated, both = Durability.parse("replicated:1"), Durability.parse("replicated_disk:1")
    assert both.covers(DISK)
    assert both.covers(replicated)
    assert not DISK.covers(replicated)
    assert not replicated.covers(DISK)
    assert not replicated.covers(Durability.parse("replicated:2"))
    assert all(level.covers(MEMORY) for level in LEVELS)


def test_covering_is_an_order():
    for a, b, c in itertools.product(LEVELS, repeat=3):
        assert a.covers(a)
        assert not (a.covers(b) and b.covers(a)) or a == b
        assert not (a.covers(b) and b.covers(c)) or a.covers(c)


def test_the_joined_level_is_the_least_that_covers_both():
    for a, b in itertools.product(LEVELS, repeat=2):
        joined = a.joined(b)
        assert joined.covers(a)
        assert joined.covers(b)
        assert all(other.covers(joined) for other in LEVELS if other.covers(a) and other.covers(b))


def test_the_highest_of_none_is_memory():
    assert highest([]) == MEMORY
    assert str(highest([DISK, Durability(False, 2), Durability(False, 1)])) == "replicated_disk:2"
