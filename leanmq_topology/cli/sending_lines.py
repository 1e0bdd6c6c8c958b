"""`send --ndjson`: a message a line, stored in order and in steps; what fails is told by its line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from leanmq_topology.cli.arriving_lines import PAUSE
from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.errors import InvalidMessageError, LeanMQError

LINES_A_STEP: Final = 1000


class Line(NamedTuple):
    """One line that holds a message; numbers begin with 1 and count empty lines too."""

    number: int
    data: Any
    problem: InvalidMessageError | None = None
    """It is no JSON: there is no data."""


class LineSender:
    """Sends lines until they end or one fails; everything before that one is stored then."""

    def __init__(
        self, send: Callable[[list[Any]], Sequence[str]], note_stored: Callable[[Sequence[str]], None]
    ) -> None:
        """`send` stores data in order, any number, and raises as `send_many(..., atomic=False)`."""
        self._send, self._note_stored = send, note_stored
        self.count = 0
        """Messages stored so far."""
        self.last = 0
        """The number of the last line among them."""

    def send(self, source: Iterable[bytes]) -> None:
        """Raises what a send raises, with the place and with what is stored in its message.

        A step leaves when it is full, and at each `PAUSE` of the source.
        """
        for step in read_steps(source):
            sound = [line for line in step if line.problem is None]
            self._store(sound)
            if len(sound) < len(step):
                broken = step[-1]
                assert broken.problem is not None
                raise self._explain(broken.problem, broken.number)

    def _store(self, lines: Sequence[Line]) -> None:
        if not lines:
            return
        try:
            self._note(lines, self._send([line.data for line in lines]))
        except LeanMQError as failure:
            self._note(lines, failure.stored_ids)
            rest = lines[len(failure.stored_ids) :]
            wrong = failure.index if isinstance(failure, InvalidMessageError) else None
            if wrong is None:
                raise self._explain(failure, None, rest[: len(failure.unknown_ids)]) from None
            self._store(lines[len(failure.stored_ids) : wrong])
            raise self._explain(failure, lines[wrong].number) from None

    def _note(self, lines: Sequence[Line], ids: Sequence[str]) -> None:
        if ids:
            self.count += len(ids)
            self.last = lines[len(ids) - 1].number
            self._note_stored(ids)

    def tell_stored(self) -> str:
        """`the 1,502 messages up to line 1,503 are stored`"""
        if not self.count:
            return "nothing is stored"
        many = "message" if self.count == 1 else f"{self.count:,} messages"
        return f"the {many} up to line {self.last:,} {'is' if self.count == 1 else 'are'} stored"

    def _explain(self, failure: LeanMQError, number: int | None, unknown: Sequence[Line] = ()) -> LeanMQError:
        """The same failure, told by its place: programs still see its type and its exit code."""
        place = f"line {number:,}: " if number else f"after line {self.last:,}: " if self.last else ""
        told = [f"{place}{failure.message}", self.tell_stored()]
        if unknown:
            told.append(f"lines {unknown[0].number:,} to {unknown[-1].number:,} may be stored or not")
        failure.args = ("; ".join(told),)
        if self.last and not unknown:
            again = f"`tail -n +{self.last + 1}` gives the lines that are not stored"
            failure.hint = f"{failure.hint}; {again}" if failure.hint else again
        return failure


def read_steps(source: Iterable[bytes]) -> Iterator[list[Line]]:
    """Lines that are sent together: at least one, and no more than have come."""
    step: list[Line] = []
    for line in read_lines(source):
        if line is not None:
            step.append(line)
        if step and (line is None or len(step) == LINES_A_STEP):
            yield step
            step = []
    if step:
        yield step


def read_lines(source: Iterable[bytes]) -> Iterator[Line | None]:
    """Each line as a message, up to the first that is no JSON, which has its problem; None for a pause.

    Skips empty ones.
    """
    number = 0
    for raw in source:
        if raw == PAUSE:
            yield None
            continue
        number += 1
        if not raw.strip():
            continue
        try:
            yield Line(number, decode_data(raw))
        except InvalidMessageError as problem:
            yield Line(number, None, problem)
            return
