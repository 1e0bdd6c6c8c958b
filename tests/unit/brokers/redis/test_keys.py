"""Keys, and where a queue turned out to lie."""

from __future__ import annotations

import pytest

from leanmq_topology.brokers.redis.keys import MOST_REMEMBERED, Keys, relocate

SAID = "MISPLACED {b}{ns}:m:work"


def test_all_keys_of_a_queue_go_where_its_record_says_and_its_record_stays():
    keys = Keys("ns")
    before = (
        keys.queue("work"),
        keys.dead("work"),
        keys.trash("work", "one", "q"),
        keys.marker("work", "f0"),
    )
    others = (keys.meta("work"), keys.queue("work2"), keys.queue("work.b"), keys.due, keys.producer("work"))
    assert relocate((*before, *others), SAID) == (
        "{b}:q:work",
        "{b}:d:work",
        "{b}:t:work:one:q",
        "{b}:u:work:f0",
        *others,
    )
    keys.learn(SAID)
    assert keys.queue("work") == "{b}:q:work"
    assert keys.meta("work") == "{ns}:m:work"
    assert keys.queue("work2") == "{ns}:q:work2"


@pytest.mark.parametrize("name", ["a.b", "a+b", "o{d}d:%", "(", "ä ö"])
def test_no_name_is_taken_for_a_pattern(name: str):
    keys = Keys("ns")
    said = f"MISPLACED {{b}}{keys.meta(name)}"
    assert relocate((keys.queue(name), keys.queue("axb")), said) == (
        f"{{b}}{keys.queue(name)[4:]}",
        "{ns}:q:axb",
    )


@pytest.mark.parametrize(
    "said",
    ["NOGROUP no such key", "UNPLACED {ns}:m:work", "MISPLACED {}{ns}:m:work", "MISPLACED {b}{ns}:m:other"],
)
def test_any_other_reply_stands(said: str):
    assert relocate((Keys("ns").queue("work"),), said) is None


def test_keys_that_are_there_already_are_not_made_anew():
    """Else a record that cannot be satisfied would be tried for ever."""
    assert relocate(("{b}:q:work", "{ns}:m:work"), SAID) is None


def test_what_is_remembered_is_made_anew_once_a_queue_lies_elsewhere_and_is_bounded():
    keys = Keys("ns")
    made = [keys.remember("work", lambda: (keys.queue("work"),)) for _ in range(2)]
    assert made[0] is made[1]
    keys.learn(SAID)
    assert keys.remember("work", lambda: (keys.queue("work"),)) == ("{b}:q:work",)
    for number in range(2 * MOST_REMEMBERED):
        keys.remember(number, lambda: ())
    assert len(keys._remembered) <= MOST_REMEMBERED


def test_two_servers_with_one_namespace_do_not_share_what_was_heard():
    one, other = Keys("ns"), Keys("ns")
    one.learn(SAID)
    assert other.queue("work") == "{ns}:q:work"
