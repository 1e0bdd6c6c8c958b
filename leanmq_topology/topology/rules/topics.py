"""Topic patterns of one target: what another of them already covers is never needed."""

from __future__ import annotations

from leanmq_topology.contracts.topics import covers
from leanmq_topology.topology.draft import Draft, Findings
from leanmq_topology.topology.model import Target, TopicRoute


def check_topics(draft: Draft) -> Findings:
    for route in draft.topology.routes.values():
        if isinstance(route, TopicRoute):
            for target in route.to:
                yield from _find_needless(draft, route.name, target)


def _find_needless(draft: Draft, route: str, target: Target) -> Findings:
    for at, pattern in enumerate(target.topics):
        wider = _find_wider(target.topics, at)
        if wider is not None:
            yield draft.warning(
                "LMQ427",
                f"{pattern!r} is listed twice"
                if pattern == wider
                else f"{wider!r} covers {pattern!r} already",
                ("routes", route, "to", target.queue, "topics", at),
                suggestion="take it out; a message that fits several patterns is still one copy",
            )


def _find_wider(patterns: tuple[str, ...], at: int) -> str | None:
    """Another pattern that covers this one; of two that mean the same, the first stays."""
    pattern = patterns[at]
    for other_at, other in enumerate(patterns):
        if other_at != at and covers(other, pattern) and (other_at < at or not covers(pattern, other)):
            return other
    return None
