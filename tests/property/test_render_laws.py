"""Laws of reading and writing topologies, over topologies nobody wrote by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanmq_topology.topology.loading import check_topology
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.values import format_duration, format_size
from leanmq_topology.topology.written import write_topology
from leanmq_topology.topology.yaml_text import write_yaml

names = st.from_regex(r"[a-z][a-z0-9_.-]{0,12}", fullmatch=True).filter(
    lambda name: not name.startswith("x-")
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | texts


def durations(least_ms: int, most_ms: int) -> st.SearchStrategy[str]:
    return st.integers(least_ms, most_ms).map(format_duration)


def sometimes(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


DAY_MS = 86_400_000
retries = sometimes(
    backoff=st.sampled_from(["exponential", "fixed"]),
    delay=durations(0, 60_000),
    max_delay=durations(300_000, DAY_MS),
    jitter=st.sampled_from(["full", "none"]),
    never=st.lists(st.sampled_from(["ValueError", "shop.errors.Declined"]), unique=True, min_size=1),
) | sometimes(steps=st.lists(durations(0, DAY_MS), min_size=1, max_size=4))
queues = sometimes(
    ttl=st.just("none") | durations(40 * DAY_MS, 3650 * DAY_MS),
    on_expire=st.sampled_from(["dead_letter", "discard"]),
    delay=durations(0, 30 * DAY_MS),
    max_deliveries=st.integers(1, 1000),
    retry=retries,
    visibility_timeout=durations(1000, 12 * 3_600_000),
    max_length=st.integers(1, 2**53),
    max_message_size=st.integers(1024, 16 * 1024**2).map(format_size),
    dead_letter=sometimes(alert_at=st.integers(1, 1000)),
    lifecycle=sometimes(prevent_delete=st.booleans()),
)
examples = st.recursive(
    st.dictionaries(texts, scalars, max_size=3),
    lambda inner: st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def topologies(draw: st.DrawFn) -> dict[str, Any]:
    """The values of a file without mistakes, with any name, text and number where one may stand."""
    types = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    targets = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    accepts = st.lists(st.sampled_from(types), unique=True)
    values: dict[str, Any] = {
        "leanmq": 1,
        "name": draw(names),
        "defaults": {"queue": draw(queues)},
        "messages": {
            name: {"schema": {"type": "object", "description": draw(texts)}, "examples": [draw(examples)]}
            for name in types
        },
        "queues": {name: {**draw(queues), "accepts": draw(accepts)} for name in targets[1:]},
        "handlers": {
            name: {"queue": name, "call": "shop.work:run", "concurrency": draw(st.integers(1, 1024))}
            for name in targets[1:]
        },
    }
    if targets[1:]:
        values["routes"] = {targets[0]: {"type": "fanout", "accepts": [types[0]], "to": {}}}
        for name in targets[1:]:
            others = [other for other in draw(accepts) if other != types[0]]
            values["queues"][name]["accepts"] = [types[0], *others]
            values["routes"][targets[0]]["to"][name] = {"match": {"data.field": [_escaped(draw(texts))]}}
    return values


def _escaped(text: str) -> str:
    return text.replace("$", "$$")


def load(path: Path, text: str) -> Topology:
    path.write_text(text, encoding="utf-8")
    topology, found = check_topology([path], environ={})
    assert topology is not None, [item for item in found if item.is_error]
    return topology


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(topologies())
def test_a_rendered_topology_loads_as_an_equal_one_and_renders_the_same(
    tmp_path: Path, values: dict[str, Any]
):
    topology = load(tmp_path / "topology.yaml", write_yaml(values))

    rendered = write_yaml(write_topology(topology))
    again = load(tmp_path / "rendered.yaml", rendered)

    assert again == topology
    assert write_yaml(write_topology(again)) == rendered
