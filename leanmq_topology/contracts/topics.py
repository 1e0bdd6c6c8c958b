"""Topics: words joined by dots, and patterns of them: `*` stands for one word, `#` for any number, even none.

Patterns become one regular expression, so a message costs one search however many patterns a queue has. What
stands between two `#` is found at its first place and never sought again (an atomic group), which is enough
because it always has the same number of words; so no topic makes a pattern slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

MOST_TOPIC_LENGTH: Final = 255
"""Characters of a topic or of a pattern."""

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_WORD = re.compile(r"[A-Za-z0-9_-]+|\*|#")
_ANY_WORD: Final = r"[^.]*\."
_ANY_WORDS: Final = rf"(?:{_ANY_WORD})*"


def find_topic_problem(text: str) -> str | None:
    """What is wrong with a topic that a sender names; None if nothing is."""
    if len(text) > MOST_TOPIC_LENGTH:
        return f"{len(text)} characters are more than a topic may have ({MOST_TOPIC_LENGTH})"
    if _TOPIC.fullmatch(text):
        return None
    if "*" in text or "#" in text:
        return f"{text!r} is a pattern; a message has one topic, without `*` and `#`"
    return f"{text!r} is not words of letters, digits, `_`, `-`, joined by dots"


def find_pattern_problem(text: str) -> str | None:
    """What is wrong with a pattern of the topology file; None if nothing is."""
    if len(text) > MOST_TOPIC_LENGTH:
        return f"{len(text)} characters are more than a topic pattern may have ({MOST_TOPIC_LENGTH})"
    for word in text.split("."):
        if not word:
            return f"{text!r} has an empty word: dots stand between words"
        if not _WORD.fullmatch(word):
            return _describe_word(text, word)
    return None


def _describe_word(text: str, word: str) -> str:
    if "*" in word or "#" in word:
        return f"{word!r} in {text!r} is no word: `*` and `#` stand alone between dots"
    return f"{word!r} in {text!r} is no word: letters, digits, `_` and `-` make one"


@lru_cache(maxsize=4096)
def compile_topics(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a topic fits one of these patterns; the empty topic fits `#` alone."""
    fits = re.compile("|".join(map(_write_expression, patterns))).fullmatch

    def is_wanted(topic: str) -> bool:
        return fits(f"{topic}." if topic else "") is not None

    return is_wanted


def covers(wider: str, narrower: str) -> bool:
    """Whether every topic that fits `narrower` fits `wider` too."""
    return _covers(_normalize(wider), _normalize(narrower))


def _write_expression(pattern: str) -> str:
    """Over a topic with a dot after each word."""
    first, *others = _split_at_any(_normalize(pattern))
    if not others:
        return _write_words(first)
    *middle, last = others
    sought = "".join(f"(?>(?:{_ANY_WORD})*?{_write_words(words)})" for words in middle)
    return f"{_write_words(first)}{sought}{_ANY_WORDS}{_write_words(last)}"


def _write_words(words: Iterable[str]) -> str:
    return "".join(_ANY_WORD if word == "*" else rf"{re.escape(word)}\." for word in words)


def _split_at_any(words: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "#":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _normalize(pattern: str) -> tuple[str, ...]:
    """One spelling for what means the same: in a row of `*` and `#`, the `*` come first and one `#` stays."""
    words: list[str] = []
    for is_wild, row in groupby(pattern.split("."), key=lambda word: word in {"*", "#"}):
        found = list(row)
        if is_wild:
            found = ["*"] * found.count("*") + ["#"] * ("#" in found)
        words += found
    return tuple(words)


def _covers(wider: tuple[str, ...], narrower: tuple[str, ...]) -> bool:
    """Word for word, as far as wildcards of the narrower one are met by those of the wider."""
    reached = {0}
    for word in wider:
        if word == "#":
            reached = set(range(min(reached), len(narrower) + 1)) if reached else reached
        else:
            reached = {at + 1 for at in reached if at < len(narrower) and _fits(word, narrower[at])}
    return len(narrower) in reached


def _fits(word: str, other: str) -> bool:
    return word == other or (word == "*" and other != "#")
