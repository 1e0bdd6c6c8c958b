"""Topic patterns against a matcher that is too simple to be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leanmq_topology.contracts.topics import compile_topics, covers

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=7)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=6)


def fits(pattern: list[str], topic: list[str]) -> bool:
    """Word by word, trying every length for a `#`."""
    if not pattern:
        return not topic
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(fits(rest, topic[skipped:]) for skipped in range(len(topic) + 1))
    return bool(topic) and first in {"*", topic[0]} and fits(rest, topic[1:])


@given(patterns=st.lists(PATTERNS, min_size=1, max_size=3), topic=WORDS)
def test_compiled_patterns_agree_with_the_plain_definition(patterns: list[list[str]], topic: list[str]):
    compiled = compile_topics(tuple(".".join(pattern) for pattern in patterns))
    assert compiled(".".join(topic)) == any(fits(pattern, topic) for pattern in patterns)


@given(wider=PATTERNS, narrower=PATTERNS, topic=WORDS)
def test_what_is_called_covered_never_fits_alone(wider: list[str], narrower: list[str], topic: list[str]):
    if covers(".".join(wider), ".".join(narrower)) and fits(narrower, topic):
        assert fits(wider, topic)


@given(pattern=PATTERNS)
def test_every_pattern_covers_itself(pattern: list[str]):
    assert covers(".".join(pattern), ".".join(pattern))
