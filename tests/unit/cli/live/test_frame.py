"""What the live view shows, without a terminal."""

from __future__ import annotations

import click
import pytest

from leanmq_topology.brokers.protocol import QueueState
from leanmq_topology.cli.live.frame import Palette, Scene, draw_frame
from leanmq_topology.cli.live.samples import WINDOW_SECONDS, Sample, Samples
from leanmq_topology.operations.status import Status
from leanmq_topology.topology.model import Queue

PLAIN = Palette()


def look(at: float, **queues: dict[str, int]) -> Sample:
    """A look at queues; what is not a place where messages wait is a counter."""
    states = {}
    for name, facts in queues.items():
        places = {key: facts.get(key, 0) for key in ("ready", "in_flight", "delayed", "dead")}
        counters = {key: count for key, count in facts.items() if key not in places}
        states[name] = QueueState(name=name, **places, counters=counters)  # type: ignore[arg-type]
    return Sample(at, Status(1, {name: Queue(name=name) for name in queues}, {}, states, []))


def samples(*looks: Sample) -> Samples:
    made = Samples()
    for one in looks:
        made.add(one)
    return made


def frame(*looks: Sample, scene: Scene | None = None, width: int = 80, height: int = 24) -> list[str]:
    return draw_frame(scene or Scene("shop"), samples(*looks), width=width, height=height, palette=PLAIN)


def test_a_queue_is_a_row_with_its_rate():
    shown = frame(
        look(0, billing={"acked": 100, "ready": 1234, "retried": 7, "dead": 1}),
        look(2, billing={"acked": 500, "ready": 1200, "in_flight": 8, "retried": 9, "dead": 2}),
    )
    assert shown[1:] == [
        "queue    ready  in flight  delayed  retried  dead  done/s",
        "billing  1,200          8        0        9     2     200",
    ]


def test_a_first_look_knows_no_rate():
    assert frame(look(0, billing={"acked": 5}))[-1].endswith("-")


def test_a_rate_is_a_mean_over_the_last_seconds():
    looks = [
        look(float(second), q={"acked": 0 if second < 20 else (second - 20) * 10}) for second in range(40)
    ]
    found = samples(*looks)
    assert found.rate("q") == pytest.approx(10)
    found.add(look(100, q={"acked": 190}))
    found.add(look(101, q={"acked": 190}))
    assert found.rate("q") == 0
    assert WINDOW_SECONDS < 20


def test_a_counter_that_began_anew_makes_no_negative_rate():
    assert samples(look(0, q={"acked": 50}), look(1, q={"acked": 3})).rate("q") is None


def test_the_last_error_of_a_queue_stands_beside_it_as_far_as_there_is_room():
    scene = Scene("shop", last_errors={"billing": "CardDeclinedError: card ending in 0000 was declined"})
    shown = frame(look(0, billing={}), scene=scene, width=80)
    assert "last error" in shown[1]
    assert shown[2].endswith("  CardDeclinedError: c…")
    assert len(shown[2]) == 80
    assert "Card" not in "".join(frame(look(0, billing={}), scene=scene, width=60))


def test_what_a_message_says_cannot_write_to_the_terminal():
    scene = Scene("shop", last_errors={"q": "\x1b[2J gone"})
    assert "\x1b" not in "".join(frame(look(0, q={}), scene=scene))


def test_the_head_says_what_is_served_and_what_is_wrong():
    [good, *_] = frame(look(0, q={}), scene=Scene("shop", "serving generation 3"))
    assert good.startswith("── shop ● serving generation 3 ──")
    [bad, *_] = frame(look(0, q={}), scene=Scene("shop", "handlers.py:3 is broken", is_bad=True))
    assert "✗ handlers.py:3 is broken" in bad


@pytest.mark.parametrize("width", [20, 40, 79, 200])
@pytest.mark.parametrize("color", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, color: bool):
    scene = Scene(
        "a-rather-long-namespace on redis://somewhere",
        "a long note " * 9,
        True,
        {"q": "x" * 99},
        "hint " * 40,
    )
    shown = draw_frame(
        scene, samples(look(0, q={"dead": 3})), width=width, height=9, palette=Palette(color=color)
    )
    assert max(len(click.unstyle(line)) for line in shown) <= width


def test_with_little_room_the_busiest_queues_are_shown_in_their_order():
    queues = {f"q{n:02}": {"acked": n * 10 if n in {3, 7} else 0} for n in range(40)}
    before = {name: {"acked": 0} for name in queues}
    shown = frame(look(0, **before), look(1, **queues), height=6)
    assert [line.split()[0] for line in shown[2:5]][-1] == "q07"
    assert "q03" in "".join(shown)
    assert shown[-1].startswith("37 quieter queues not shown")
    assert len(shown) <= 6


def test_before_anything_is_known_the_view_says_why():
    waiting = samples(Sample(0, None, "the server cannot be reached"))
    assert (
        draw_frame(Scene("shop"), waiting, width=60, height=9, palette=PLAIN)[1]
        == "the server cannot be reached"
    )


def test_a_server_that_went_away_leaves_the_last_numbers_and_says_so():
    shown = frame(look(0, q={"ready": 5}), Sample(1, None, "the server cannot be reached"))
    assert "5" in shown[2]
    assert shown[-1] == "the server cannot be reached"


def test_a_paused_queue_says_so_and_dead_letters_are_marked():
    state = QueueState(name="q", state="paused", dead=2, counters={})  # type: ignore[call-arg]
    sample = Sample(0, Status(1, {"q": Queue(name="q")}, {}, {"q": state}, []))
    shown = draw_frame(Scene("shop"), samples(sample), width=80, height=9, palette=Palette(color=True))
    assert "q (paused)" in shown[2]
    assert click.style("2", fg="red", bold=True) in shown[2]
