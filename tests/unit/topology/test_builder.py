"""From the file's values to the model's: units, defaults, and what overrides what."""

from __future__ import annotations

from pathlib import Path

from leanmq_topology.topology.model import (
    Backoff,
    BrokerSettings,
    FanoutRoute,
    Jitter,
    KeepAcked,
    Lifecycle,
    OnExpire,
    OnFalse,
    Queue,
    Retry,
    Target,
)
from leanmq_topology.topology.sections import QUEUE, Field
from tests.unit.topology.drafts import HEADER, TYPES, load


def test_a_queue_without_keys_has_the_defaults_of_the_language(tmp_path: Path):
    topology = load(tmp_path, HEADER + "queues: {plain: {}}")

    assert topology.queues["plain"] == Queue(name="plain")


def test_every_value_of_a_queue_arrives_in_its_unit(tmp_path: Path):
    topology = load(
        tmp_path,
        TYPES
        + """
queues:
  billing:
    accepts: [placed]
    ttl: 1h30m
    on_expire: discard
    delay: 500ms
    max_deliveries: 7
    retry: {backoff: fixed, delay: 2s, max_delay: 1m, jitter: none, never: [ValueError, shop.errors.Declined]}
    visibility_timeout: 45s
    max_length: 1000
    max_message_size: 64k
    dead_letter: {alert_at: 3}
    lifecycle: {prevent_delete: true}
""",
    )

    assert topology.queues["billing"] == Queue(
        name="billing",
        accepts=("placed",),
        ttl_ms=5_400_000,
        on_expire=OnExpire.DISCARD,
        delay_ms=500,
        max_deliveries=7,
        retry=Retry(
            backoff=Backoff.FIXED,
            delay_ms=2000,
            max_delay_ms=60_000,
            jitter=Jitter.NONE,
            never=("ValueError", "shop.errors.Declined"),
        ),
        visibility_timeout_ms=45_000,
        max_length=1000,
        max_message_size=65_536,
        dead_letter=topology.queues["billing"].dead_letter,
        lifecycle=Lifecycle(prevent_delete=True),
    )
    assert topology.queues["billing"].dead_letter.alert_at == 3


def test_defaults_reach_every_queue_and_its_own_values_win(tmp_path: Path):
    topology = load(
        tmp_path,
        HEADER
        + """
defaults:
  queue: {ttl: 7d, max_deliveries: 9, retry: {delay: 3s, jitter: none}}
queues:
  plain: {}
  own: {ttl: none, retry: {max_delay: 10m}}
""",
    )

    assert topology.queues["plain"].ttl_ms == 7 * 86_400_000
    assert topology.queues["own"].ttl_ms is None
    assert topology.queues["own"].max_deliveries == 9
    own = topology.queues["own"].retry
    assert (own.delay_ms, own.max_delay_ms, own.jitter) == (3000, 600_000, Jitter.NONE)


def test_steps_of_a_queue_replace_the_formula_of_the_defaults_and_the_other_way_round(tmp_path: Path):
    topology = load(
        tmp_path,
        HEADER
        + """
defaults: {queue: {retry: {steps: [1s, 2s], never: [ValueError]}}}
queues: {formula: {retry: {delay: 5s}}, steps: {retry: {steps: [9s]}}, plain: {}}
""",
    )

    assert topology.queues["formula"].retry == Retry(delay_ms=5000, never=("ValueError",))
    assert topology.queues["steps"].retry == Retry(steps_ms=(9000,), never=("ValueError",))
    assert topology.queues["plain"].retry == Retry(steps_ms=(1000, 2000), never=("ValueError",))


def test_defaults_reach_every_handler_and_its_own_values_win(tmp_path: Path):
    topology = load(
        tmp_path,
        HEADER
        + """
defaults: {handler: {concurrency: 16, on_false: ack}}
queues: {a: {}, b: {}}
handlers:
  one: {queue: a, call: "shop.one:run"}
  two: {queue: b, call: "shop.two:run", concurrency: 2, prefetch: 8, on_false: retry}
""",
    )
    one, two = topology.handlers["one"], topology.handlers["two"]

    assert (one.concurrency, one.prefetch, one.on_false) == (16, None, OnFalse.ACK)
    assert (two.concurrency, two.prefetch, two.on_false) == (2, 8, OnFalse.RETRY)


def test_the_namespace_is_the_name_unless_it_is_given(tmp_path: Path):
    assert load(tmp_path, HEADER).broker == BrokerSettings(namespace="shop")
    given = load(tmp_path, HEADER + "broker: {namespace: other, url: 'redis://localhost'}").broker
    assert given == BrokerSettings(namespace="other", url="redis://localhost")


def test_a_route_without_accepts_takes_what_its_queues_have_in_common(tmp_path: Path):
    topology = load(
        tmp_path,
        TYPES
        + """
queues: {a: {accepts: [placed, paid]}, b: {accepts: [paid]}, c: {}}
routes:
  all: {type: fanout, to: {c: {}, a: {}, b: {}}}
  any: {type: fanout, to: {c: {}}}
""",
    )

    assert topology.routes["all"] == FanoutRoute(
        name="all", accepts=("paid",), to=(Target(queue="a"), Target(queue="b"), Target(queue="c"))
    )
    assert topology.routes["any"].accepts == ()


def test_two_spellings_of_one_topology_are_equal(tmp_path: Path):
    spelt_out = load(tmp_path, HEADER + "queues: {a: {ttl: 24h, delay: 0s, max_message_size: 1024KiB}}")
    short = load(tmp_path, HEADER + "defaults: {queue: {ttl: 1d}}\nqueues: {a: {}}")

    assert spelt_out == short


def test_an_environment_overlays_what_it_names(tmp_path: Path):
    from leanmq_topology.topology.loading import load_topology

    path = tmp_path / "topology.yaml"
    path.write_text(
        HEADER
        + "queues: {a: {max_deliveries: 2, ttl: 1d}}\n"
        + "environments: {prod: {queues: {a: {max_deliveries: 20}}}}\n"
    )

    assert load_topology([path], environ={}).queues["a"].max_deliveries == 2
    prod = load_topology([path], environ={}, environment="prod").queues["a"]
    assert (prod.max_deliveries, prod.ttl_ms) == (20, 86_400_000)


def test_variables_have_the_type_they_show(tmp_path: Path):
    topology = load(
        tmp_path,
        HEADER + "queues:\n  a:\n    max_deliveries: ${N:-3}\n    ttl: ${TTL}\n",
        environ={"TTL": "2h"},
    )

    assert topology.queues["a"].max_deliveries == 3
    assert topology.queues["a"].ttl_ms == 7_200_000


def test_acknowledged_messages_are_kept_for_a_time_or_up_to_a_count():
    field = QUEUE["keep_acked"]
    assert isinstance(field, Field)
    assert field.read("none") is None
    assert field.read("1d") == KeepAcked(duration_ms=86_400_000)
    assert field.read(500) == KeepAcked(count=500)


def test_schema_files_count_among_the_files_of_a_topology(tmp_path: Path):
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "a.json").write_text('{"type": "object", "$ref": "b.json"}')
    (tmp_path / "schemas" / "b.json").write_text('{"required": ["id"]}')

    topology = load(tmp_path, HEADER + "messages: {a: {schema: schemas/a.json}, c: {schema: schemas/a.json}}")

    assert [path.name for path in topology.files] == ["topology.yaml", "a.json", "b.json"]
    assert topology.messages["a"].schema == topology.messages["c"].schema
    assert topology.folder == tmp_path
