from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from leanmq_topology.plan.fields import FieldChange, compare_fields, format_value
from leanmq_topology.topology.model import FanoutRoute, MessageType, Queue, Retry, Target
from leanmq_topology.topology.specs import resource_specs
from tests.support.factories import make_topology

BILLING = Queue(name="billing")


def spec_of(resource: Queue | FanoutRoute | MessageType) -> dict:
    """As desired: tuples are still tuples."""
    if isinstance(resource, Queue):
        return resource_specs(make_topology("t", resource))[f"queues.{resource.name}"]
    if isinstance(resource, MessageType):
        return resource_specs(make_topology("t", messages=(resource,)))[f"messages.{resource.name}"]
    return resource_specs(make_topology("t", routes=(resource,)))[f"routes.{resource.name}"]


def applied(resource: Queue | FanoutRoute | MessageType) -> dict:
    """As recorded: through JSON and back."""
    return msgspec.json.decode(msgspec.json.encode(spec_of(resource)))


@pytest.mark.parametrize(
    ("after", "change"),
    [
        (replace(BILLING, ttl_ms=86_400_000), FieldChange("ttl", "none", "1d")),
        (replace(BILLING, max_length=5), FieldChange("max_length", "none", "5")),
        (replace(BILLING, max_message_size=65536), FieldChange("max_message_size", "1MiB", "64KiB")),
        (replace(BILLING, visibility_timeout_ms=90_000), FieldChange("visibility_timeout", "30s", "1m30s")),
        (replace(BILLING, accepts=("a", "b")), FieldChange("accepts", "any", "[a, b]")),
        (
            replace(BILLING, retry=Retry(steps_ms=(10_000, 60_000))),
            FieldChange("retry.steps", "none", "[10s, 1m]"),
        ),
    ],
)
def test_a_field_is_shown_as_the_file_spells_it(after, change):
    assert compare_fields(applied(BILLING), spec_of(after)) == [change]


def test_equal_specs_have_no_changed_fields():
    assert compare_fields(applied(BILLING), spec_of(BILLING)) == []


def test_a_target_more_and_a_target_less_are_one_line_each():
    before = FanoutRoute(name="r", to=(Target(queue="a"), Target(queue="b", match={"data.x": 1})))
    after = FanoutRoute(name="r", to=(Target(queue="a"), Target(queue="c")))

    changes = compare_fields(applied(before), spec_of(after))

    assert changes == [FieldChange("to.c", "none", "{}"), FieldChange("to.b.match.data.x", "1", "none")]


def test_a_schema_is_compared_keyword_by_keyword():
    before = MessageType(name="m", schema={"type": "object", "properties": {"total": {"minimum": 0}}})
    after = MessageType(name="m", schema={"type": "object", "properties": {"total": {"minimum": 1}}})

    assert compare_fields(applied(before), spec_of(after)) == [
        FieldChange("schema.properties.total.minimum", "0", "1")
    ]


def test_a_field_that_an_older_version_did_not_record_shows_as_none():
    older = {key: value for key, value in applied(BILLING).items() if key != "max_crashes"}

    assert compare_fields(older, spec_of(BILLING)) == [FieldChange("max_crashes", "none", "3")]


def test_a_long_value_is_cut():
    assert len(format_value("pattern", "x" * 1000)) < 80
