"""What threads of a parent may have held when it forked, and nobody in the child would ever let go of."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    def renew(self) -> None:
        """Begin anew, with locks of its own, in a process with one thread."""
        ...


_known: WeakSet[Renewable] = WeakSet()


def renew_in_children(one: Renewable) -> None:
    """Renew it in every child that this process forks, for as long as it is used."""
    _known.add(one)


def _renew_all() -> None:
    for one in list(_known):
        one.renew()


os.register_at_fork(after_in_child=_renew_all)
