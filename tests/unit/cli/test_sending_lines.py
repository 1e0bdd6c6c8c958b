"""Lines to messages: which line failed, and what is stored then."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from leanmq_topology.cli.arriving_lines import PAUSE
from leanmq_topology.cli.progress import Progress, render_progress
from leanmq_topology.cli.sending_lines import LINES_A_STEP, LineSender
from leanmq_topology.errors import BrokerUnavailableError, InvalidMessageError, LeanMQError, QueueFullError


class Store:
    """Takes messages as `send_many(..., atomic=False)` would; `judge` says what it refuses."""

    def __init__(self, judge: Callable[[Any], LeanMQError | None] = lambda data: None) -> None:
        self.judge = judge
        self.stored: list[Any] = []
        self.told: list[str] = []
        self.steps: list[int] = []

    def send(self, items: list[Any]) -> Sequence[str]:
        self.steps.append(len(items))
        for at, data in enumerate(items):
            failure = self.judge(data)
            if isinstance(failure, InvalidMessageError):
                failure.index = at
                raise failure
        for at, data in enumerate(items):
            failure = self.judge(data)
            if failure is not None:
                failure.stored_ids = tuple(f"id{one}" for one in items[:at])
                self.stored += items[:at]
                raise failure
        self.stored += items
        return [f"id{data}" for data in items]

    def run(self, text: str) -> LineSender:
        sender = LineSender(self.send, self.told.extend)
        sender.send(io.BytesIO(text.encode()))
        return sender

    def fail(self, text: str) -> LeanMQError:
        with pytest.raises(LeanMQError) as caught:
            self.run(text)
        return caught.value


def refuses(*numbers: int, failure: Callable[[], LeanMQError]) -> Callable[[Any], LeanMQError | None]:
    return lambda data: failure() if data in numbers else None


def invalid() -> LeanMQError:
    return InvalidMessageError("/total", "is wrong")


def test_every_line_is_a_message_and_empty_ones_are_none():
    store = Store()
    sender = store.run("1\n\n2\n   \n3")
    assert (store.stored, store.told, sender.last) == ([1, 2, 3], ["id1", "id2", "id3"], 5)


def test_lines_without_end_go_in_steps():
    store = Store()
    store.run("\n".join(map(str, range(2 * LINES_A_STEP + 5))))
    assert store.steps == [LINES_A_STEP, LINES_A_STEP, 5]
    assert store.stored == list(range(2 * LINES_A_STEP + 5))


def test_what_has_come_is_stored_at_a_pause_and_pauses_are_no_lines():
    store = Store()
    sender = LineSender(store.send, store.told.extend)
    pauses = iter([PAUSE, b"1\n", b"2\n", b"\n", PAUSE, b"\n", PAUSE, b"3\n"])
    seen: list[list[str]] = []

    def watch() -> Iterator[bytes]:
        for raw in pauses:
            seen.append(list(store.told))
            yield raw

    sender.send(watch())
    assert store.steps == [2, 1]
    assert seen[4:] == [[], ["id1", "id2"], ["id1", "id2"], ["id1", "id2"]]
    assert sender.last == 5


def test_no_lines_are_no_failure():
    assert Store().run("\n\n").count == 0


@pytest.mark.parametrize("first", [0, 1, 700, LINES_A_STEP - 1, LINES_A_STEP, 1503])
def test_a_wrong_line_is_named_and_all_before_it_are_stored(first: int):
    store = Store(refuses(first, failure=invalid))
    failure = store.fail("\n".join(map(str, range(2000))))
    assert store.stored == list(range(first))
    assert len(store.told) == first
    assert failure.message.startswith(f"line {first + 1:,}: message is invalid at /total: is wrong; ")
    assert ("nothing is stored" in failure.message) == (first == 0)
    if first > 1:
        assert f"the {first:,} messages up to line {first:,} are stored" in failure.message
        assert f"tail -n +{first + 1}" in (failure.hint or "")


def test_a_line_that_is_no_json_is_named_and_all_before_it_are_stored():
    store = Store()
    failure = store.fail("1\n\n2\n{oops\n4\n")
    assert store.stored == [1, 2]
    assert isinstance(failure, InvalidMessageError)
    assert failure.message.startswith("line 4: ")
    assert "the 2 messages up to line 3 are stored" in failure.message


def test_a_wrong_line_before_one_that_is_no_json_is_the_one_named():
    store = Store(refuses(2, failure=invalid))
    assert store.fail("1\n2\n{oops\n").message.startswith("line 2: ")
    assert store.stored == [1]


def test_a_queue_that_fills_up_tells_after_which_line():
    store = Store(refuses(1500, failure=lambda: QueueFullError("billing", 1500)))
    failure = store.fail("\n".join(map(str, range(2000))))
    assert isinstance(failure, QueueFullError)
    assert failure.message.startswith("after line 1,500: queue 'billing' is full")
    assert "the 1,500 messages up to line 1,500 are stored" in failure.message


def test_lines_whose_answer_was_lost_are_named_too():
    def lost() -> LeanMQError:
        failure = BrokerUnavailableError("gone", unknown=True)
        failure.unknown_ids = ("a", "b", "c")
        return failure

    failure = Store(refuses(2, failure=lost)).fail("0\n1\n2\n3\n4\n5\n")
    assert "the 2 messages up to line 2 are stored" in failure.message
    assert "lines 3 to 5 may be stored or not" in failure.message
    assert "tail" not in (failure.hint or "")


# -- progress ---------------------------------------------------------------------------------------------


def test_a_share_is_shown_where_the_end_is_known():
    assert render_progress(50, 200, 12_000, 4) == "[######------------------]  25%  12,000 messages, 3,000/s"
    assert render_progress(50, None, 12_000, 4) == "12,000 messages, 3,000/s"
    assert render_progress(300, 200, 1, 0).startswith("[########################] 100%")


class Moments:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_short_work_shows_nothing_and_long_work_leaves_nothing_behind():
    clock, screen = Moments(), io.StringIO()
    progress = Progress(screen, 10, clock=clock)
    assert list(progress.watch([b"12345", b"67890"])) == [b"12345", b"67890"]
    progress.add(1)
    assert screen.getvalue() == ""
    clock.now = 1.0
    progress.add(1)
    assert "100%  2 messages, 2/s" in screen.getvalue()
    drawn = len(screen.getvalue())
    progress.add(1)
    assert len(screen.getvalue()) == drawn, "not drawn more often than a person can see"
    progress.clear()
    assert screen.getvalue().endswith(" \r")


def test_without_a_terminal_nothing_is_drawn():
    clock = Moments()
    progress = Progress(None, 10, clock=clock)
    clock.now = 5
    progress.add(1)
    progress.clear()
