"""Laws of checking: whatever a file says, checking it ends in findings, each at a place inside a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanmq_topology.diagnostics import list_codes
from leanmq_topology.topology.loading import check_topology
from leanmq_topology.topology.sections import BROKER, HANDLER, MESSAGE, QUEUE, ROUTE, TARGET
from leanmq_topology.topology.yaml_text import write_yaml

CODES = set(list_codes())
WORDS = [
    *("a", "b", "r", "A B", "none", "auto", "1s", "0s", "10y", "1MiB", "data.x", "type", "fanout", "request"),
    *("topic", "ephemeral", "m.n:f", "queues.a", "queues.b", "redis://:pw@h", "$$", "full", "steps", "x-y"),
]
words = st.sampled_from(WORDS)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2000) | st.floats(-2, 2) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


def mapping_of(*keys: str) -> st.SearchStrategy[Any]:
    """Any value, but most often a mapping that has some of these keys."""
    known = st.dictionaries(st.sampled_from(keys), values, max_size=4)
    return st.one_of(known, known, known, values)


def named(*keys: str) -> st.SearchStrategy[Any]:
    section = st.dictionaries(st.sampled_from(["a", "b", "r", "A B"]), mapping_of(*keys), max_size=3)
    return st.one_of(section, section, section, values)


files = st.fixed_dictionaries(
    {"leanmq": st.just(1)},
    optional={
        "name": st.just("shop") | values,
        "broker": mapping_of(*BROKER),
        "defaults": st.fixed_dictionaries(
            {}, optional={"queue": mapping_of(*QUEUE), "handler": mapping_of(*HANDLER)}
        ),
        "messages": named(*MESSAGE, "schema"),
        "queues": named(*QUEUE),
        "routes": named(*ROUTE, *TARGET, "type", "to"),
        "handlers": named(*HANDLER),
        "lifespan": values,
        "middleware": values,
        "moved": values,
        "environments": values,
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files, st.booleans())
def test_any_file_ends_in_findings_that_lie_inside_it(tmp_path: Path, values: dict[str, Any], strict: bool):
    path = tmp_path / "topology.yaml"
    text = write_yaml(values)
    path.write_text(text, encoding="utf-8")
    lines = text.splitlines()

    topology, found = check_topology([path], environ={}, strict=strict)

    assert (topology is None) == any(item.is_error for item in found)
    for item in found:
        assert item.code in CODES
        assert item.message
        assert item.span is not None
        assert item.span.file == str(path)
        assert 1 <= item.span.line <= len(lines)
        assert 1 <= item.span.column <= len(lines[item.span.line - 1]) + 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files)
def test_no_place_is_complained_about_twice_in_the_same_words(tmp_path: Path, values: dict[str, Any]):
    path = tmp_path / "topology.yaml"
    path.write_text(write_yaml(values), encoding="utf-8")

    _, found = check_topology([path], environ={})

    assert len(found) == len({(item.code, item.address, item.message) for item in found})
