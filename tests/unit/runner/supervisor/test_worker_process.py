"""What a worker process loads: all anew, but for the first ones, whose topology was read a moment ago."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from leanmq_topology.errors import SettingError
from leanmq_topology.runner.marks import Board
from leanmq_topology.runner.supervisor.members import Birth, Role
from leanmq_topology.runner.supervisor.wire import Failed, Message
from leanmq_topology.runner.supervisor.worker_process import Orders, live


class Told:
    """The line to the supervisor."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def tell(self, message: Message) -> None:
        self.messages.append(message)


def refuse(what: str) -> Any:
    def load(tell: object) -> NoReturn:
        raise SettingError("-f", what)

    return load


@pytest.mark.parametrize(
    ("role", "generation", "again", "loaded"),
    [
        (Role.WORKER, 1, False, "as it was read"),
        (Role.WORKER, 1, True, "anew"),
        (Role.WORKER, 2, False, "anew"),
        (Role.SOLO, 1, False, "anew"),
    ],
)
def test_only_the_first_processes_go_by_what_was_read_already(
    role: Role, generation: int, again: bool, loaded: str
):
    told, board = Told(), Board()
    orders = Orders(
        load=refuse("anew"), load_first=refuse("as it was read"), find_url=refuse("url"), announce=refuse("")
    )

    code = live(orders, Birth(role, generation, 0, board, again), told)  # type: ignore[arg-type]

    board.close()
    [failed] = told.messages
    assert isinstance(failed, Failed)
    assert code == failed.exit_code
    assert loaded in failed.message
