"""What things may be called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from leanmq_topology.topology.draft import Draft, Findings
from leanmq_topology.topology.fields import ValuePath

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
ALLOWED = "a lower-case letter, then up to 63 of a-z 0-9 _ . -"
SECTIONS = ("messages", "queues", "routes", "handlers")
_IN_VALUES = (("name",), ("broker", "namespace"))
_UNUSABLE = re.compile(r"[^a-z0-9_.-]+")
_SHOWN = 40


def check_names(draft: Draft) -> Findings:
    for path, name in _names(draft):
        if not NAME.fullmatch(name):
            yield draft.error(
                "LMQ301",
                f"{_shown(name)} is not a name: {ALLOWED}",
                path,
                suggestion=_suggest(name),
                at_key=path not in _IN_VALUES,
            )


def check_look_alikes(draft: Draft) -> Findings:
    """Two names that only a computer can tell apart; both are wrong, but the pair is the dangerous thing."""
    for section in SECTIONS:
        seen: dict[str, str] = {}
        for name in draft.entries(section):
            other = seen.setdefault(_fold(name), name)
            if other != name:
                yield draft.error(
                    "LMQ302",
                    f"{_shown(name)} and {_shown(other)} ({draft.where(section, other)}) look alike"
                    " but are two names",
                    (section, name),
                    at_key=True,
                )


def check_shared_names(draft: Draft) -> Findings:
    """A sender names a queue or a route by the same word."""
    queues = draft.entries("queues")
    for name in draft.entries("routes"):
        if name in queues:
            yield draft.error(
                "LMQ303",
                f"{_shown(name)} is a queue already ({draft.where('queues', name)});"
                " queues and routes share one space of names",
                ("routes", name),
                suggestion="rename one of them",
                at_key=True,
            )


def _names(draft: Draft) -> Iterator[tuple[ValuePath, str]]:
    for path in _IN_VALUES:
        given = draft.entries(*path[:-1]).get(path[-1])
        if isinstance(given, str) and given:
            yield path, given
    for section in SECTIONS:
        yield from (((section, name), name) for name in draft.entries(section))


def _fold(name: str) -> str:
    """Look-alikes fold to the same text: compatibility forms, case, and what is not visible at all."""
    if name.isascii():
        return name.lower()
    text = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in text if unicodedata.category(letter) not in {"Cf", "Cc", "Mn"})


def _suggest(name: str) -> str | None:
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    usable = _UNUSABLE.sub("-", letters).strip("-_.")
    usable = re.sub(r"^[0-9_.-]+", "", usable)[:64]
    return f"write {usable!r}" if NAME.fullmatch(usable) else None


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "…")
