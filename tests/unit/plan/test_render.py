from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from leanmq_topology.plan.assurance import describe_assurance
from leanmq_topology.plan.changes import ACTIONS
from leanmq_topology.plan.live_state import Damage, LiveState, QueueState
from leanmq_topology.plan.markdown import MOST_ROWS, render_markdown
from leanmq_topology.plan.render import format_age, plan_to_dict, render_text
from leanmq_topology.topology.durability import MEMORY
from leanmq_topology.topology.model import FanoutRoute, KeepAcked, MessageType, Queue, Target
from tests.support.factories import make_topology
from tests.support.live_states import make_live_state, make_plan

PLACED = MessageType(name="placed", schema={"type": "object"})
BILLING = Queue(name="billing", accepts=("placed",))
EVENTS = FanoutRoute(name="events", accepts=("placed",), to=(Target(queue="billing"),))
BEFORE = make_topology("shop", BILLING, Queue(name="old"), Queue(name="taken"), messages=(PLACED,))
AFTER = make_topology(
    "shop",
    replace(BILLING, max_length=5, ttl_ms=86_400_000),
    Queue(name="taken"),
    routes=(EVENTS,),
    messages=(PLACED,),
)
LIVE = make_live_state(
    BEFORE,
    QueueState("billing", ready=9840, in_flight=3, dead=2, oldest_age_seconds=250.0),
    QueueState("old", ready=12),
    QueueState("taken", exists=False, damage=Damage.WRONG_TYPE, problem="{shop}:q:taken holds a string"),
)
PLAN = make_plan(AFTER, LIVE)

EXPECTED = """\
~ update  queues.billing
          ttl: none -> 1d
          max_length: none -> 5
          9,840 ready, 3 in flight, 0 delayed, 2 dead, oldest 4m
          warning LMQ501
            9,843 messages wait, the new limit is 5: sends are refused until they are fewer
            raise the limit, or let workers drain the queue first
! blocked queues.taken    something else lies under one of its keys
          0 ready, 0 in flight, 0 delayed, 0 dead
          error LMQ508
            {shop}:q:taken holds a string; it is left alone
            rename or delete that key, or choose another name or namespace
+ create  routes.events   fanout to billing
- orphan  queues.old      no longer in the file; kept as it is
          12 ready, 0 in flight, 0 delayed, 0 dead

1 to create, 1 to update, 1 orphan, 1 blocked, 1 unchanged.
Durability memory: a server that stops abruptly may lose messages not yet written or copied elsewhere."""


def test_a_plan_as_text():
    assert render_text(PLAN, assurance=describe_assurance({MEMORY: []})) == EXPECTED


def test_what_keeping_a_history_costs_is_said_once_in_one_line():
    keeping = [Queue(name=name, keep_acked=KeepAcked(count=5)) for name in "abcdefg"]
    cost = "an acknowledgement there costs about six times as much."
    plan = make_plan(make_topology("shop", *keeping), LiveState())
    assert f"History kept (keep_acked) in a, b, c, d, e, …: {cost}" in render_text(plan).splitlines()
    assert f"History kept (keep_acked) in a, b, c, d, e, …: {cost}" in render_markdown(plan, name="shop")

    live = make_live_state(make_topology("shop", *keeping))
    longer = replace(keeping[0], keep_acked=KeepAcked(count=6))
    changed = make_plan(make_topology("shop", longer, *keeping[1:]), live)
    assert "~ update  queues.a" in render_text(changed)
    assert cost not in render_text(changed)


def test_colour_adds_nothing_but_colour():
    colored = render_text(PLAN, assurance=describe_assurance({MEMORY: []}), color=True)

    assert "\x1b[31m! blocked\x1b[0m" in colored
    for code in ("31", "32", "33", "36", "0"):
        colored = colored.replace(f"\x1b[{code}m", "")
    assert colored == EXPECTED


def test_a_plan_with_nothing_in_it_says_so_in_one_line():
    assert render_text(make_plan(BEFORE, make_live_state(BEFORE))) == (
        "No changes: the server matches the file (generation 1)."
    )


def test_a_plan_that_only_completes_an_earlier_apply_says_what_for():
    text = render_text(
        make_plan(BEFORE, replace(make_live_state(BEFORE), unfinished="generation 2 by ada@host"))
    )

    assert "generation 2 by ada@host" in text


def test_a_plan_as_json_has_the_documented_shape():
    shown = json.loads(json.dumps(plan_to_dict(PLAN)))

    assert set(shown) == {"summary", "changes", "fingerprint"}
    assert set(shown["summary"]) == {*ACTIONS, "unchanged"}
    assert shown["fingerprint"] == LIVE.fingerprint
    for change in shown["changes"]:
        assert set(change) == {"address", "action", "before", "after", "risk", "backlog", "blocked_by"}
    by_address = {change["address"]: change for change in shown["changes"]}
    assert by_address["queues.billing"]["backlog"] == {
        "ready": 9840,
        "in_flight": 3,
        "delayed": 0,
        "dead": 2,
        "oldest_age_seconds": 250.0,
    }
    assert by_address["queues.billing"]["risk"] == "risky"
    assert by_address["queues.taken"]["action"] == "blocked"
    assert by_address["queues.taken"]["blocked_by"][0]["code"] == "LMQ508"
    assert by_address["queues.old"]["after"] is None
    assert by_address["routes.events"]["before"] is None
    assert by_address["routes.events"]["backlog"] is None


def test_markdown_shows_what_is_blocked_first_and_keeps_its_cells_whole():
    odd = replace(BILLING, accepts=("placed",), retry=replace(BILLING.retry, never=("A|B`C",)))
    plan = make_plan(make_topology("shop", odd, Queue(name="taken"), messages=(PLACED,)), LIVE)

    lines = render_markdown(plan, name="shop").splitlines()
    rows = [line for line in lines if line.startswith("| `")]

    assert lines[0] == "<!-- leanmq-plan shop -->"
    assert [row.split("`")[1] for row in rows] == ["!", "~", "-"]
    assert "A\\|B'C" in rows[1]


def test_markdown_is_cut_before_it_is_too_long_for_a_comment_and_never_at_a_risk():
    queues = [Queue(name=f"q{number}") for number in range(1000)]
    live = make_live_state(
        make_topology("shop", replace(queues[-1], max_length=9)), QueueState("q999", ready=9)
    )
    plan = make_plan(make_topology("shop", *queues[:-1], replace(queues[-1], max_length=8)), live)

    text = render_markdown(plan, name="shop")

    assert len(text) < 65_536
    assert "LMQ501" in text
    assert f"{1000 - MOST_ROWS} more rows" in text


def test_a_new_namespace_as_markdown_counts_what_is_to_be_made():
    assert "**3 to create.**" in render_markdown(
        make_plan(make_topology("s", BILLING, routes=(EVENTS,), messages=(PLACED,)), LiveState()), name="s"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.9, "59s"), (60, "1m"), (3600, "1h"), (200_000, "2d")]
)
def test_an_age_is_one_unit(seconds, text):
    assert format_age(seconds) == text
