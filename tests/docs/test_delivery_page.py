"""`docs/delivery.md` names every key on the server with its type, and every reason of a dead letter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.messages.outcome import DeadReason

PAGE = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(?P<key>\{NS\}:[^`]+)` \| (?P<type>[^|]+?) \|", re.MULTILINE)
TYPES = {"zset": "sorted set"}


def keys_in_code() -> Iterator[tuple[str, str]]:
    """Each key as the page writes it, and the type its docstring begins with."""
    keys = Keys("NS")
    for name, member in inspect.getmembers(Keys):
        if name.startswith("_") or not (isinstance(member, property) or inspect.isfunction(member)):
            continue
        function = member.fget if isinstance(member, property) else member
        assert function is not None
        signature = inspect.signature(function)
        if signature.return_annotation == "str":
            words = ["QUEUE" if word == "name" else word for word in list(signature.parameters)[1:]]
            built: str = function(keys, *(word.removesuffix("_id").upper() for word in words))
            if built.startswith("{"):  # a tag alone is no key
                yield built, str(function.__doc__)


def test_every_key_on_the_server_is_on_the_page_with_its_type():
    shown = {row["key"]: row["type"] for row in ROW.finditer(PAGE)}
    found = dict(keys_in_code())
    assert set(shown) == set(found)
    for key, text in found.items():
        kind = text.split(":")[0].split()
        expected = TYPES.get(kind[0], kind[0])
        assert shown[key].startswith("any" if expected == "renamed" else expected), key
        assert ("expires" in shown[key]) == (" PX" in text), key


def test_every_reason_of_a_dead_letter_is_on_the_page():
    for reason in DeadReason:
        assert f"`{reason.value}`" in PAGE
