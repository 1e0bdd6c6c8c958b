"""Whether a changed message schema still fits the messages and programs that are about.

Backward: readers of the new schema accept what was written by the old one (messages still queued). Forward:
readers of the old schema accept what is written by the new one (workers not yet redeployed). Full is both.

The engine's proof comes first. Where it says no or cannot tell, an example is looked for, because an example
both settles the question and explains it. What stays open counts as incompatible, and is called unproven.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from leanmq_topology.contracts.algebra import covers, strip_annotations
from leanmq_topology.contracts.engine import DRAFT_2020_12, InvalidSchemaError, Schema, read_dialect
from leanmq_topology.contracts.keywords import IN_PLACE, list_children
from leanmq_topology.contracts.references import MISSING, find_target, split_reference
from leanmq_topology.contracts.samples import list_samples
from leanmq_topology.contracts.schemas import compile_schema
from leanmq_topology.contracts.violation import parse_pointer

MODES = ("none", "backward", "forward", "full")

_MAX_DEPTH = 32


class Answer(StrEnum):
    COMPATIBLE = "compatible"
    INCOMPATIBLE = "incompatible"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found."""

    answer: Answer
    reason: str = ""
    """One sentence; empty if compatible."""
    path: str = ""
    """JSON Pointer into the data where the example breaks."""
    example: Any = None
    """Data that one side writes and the other refuses, where one was found."""

    @property
    def is_compatible(self) -> bool:
        """Unknown counts as incompatible: a contract is kept by proof, not by hope."""
        return self.answer is Answer.COMPATIBLE


_COMPATIBLE = Verdict(Answer.COMPATIBLE)


def compare(old: Schema, new: Schema, mode: str) -> Verdict:
    """Compare two self-contained, faultless schemas in a mode: `none`, `backward`, `forward` or `full`.

    An open object that gains an optional property counts as compatible, although old data might by chance
    hold that key with another type: schemas could hardly evolve otherwise.
    """
    if mode not in MODES:
        raise ValueError(f"mode is one of {', '.join(MODES)}, not {mode!r}")
    old, new = strip_annotations(old), strip_annotations(new)
    if mode in ("backward", "full"):
        verdict = _compare_one_way(written=old, read=new, what="a message of the old schema")
        if not verdict.is_compatible:
            return verdict
    if mode in ("forward", "full"):
        return _compare_one_way(
            written=new, read=old, what="a message of the new schema, read by the old one,"
        )
    return _COMPATIBLE


def _compare_one_way(*, written: Schema, read: Schema, what: str) -> Verdict:
    """Whether a reader of `read` accepts everything that a writer of `written` sends."""
    written = _Absence(written, read).assume()
    proven = covers(read, written)
    if proven:
        return _COMPATIBLE
    found = _find_example(written, read, what)
    if found is not None:
        return found
    if proven is False:
        return Verdict(Answer.INCOMPATIBLE, f"{what} may be refused: the reader's schema is stricter")
    return Verdict(Answer.UNKNOWN, f"it could not be proven that {what} is always accepted")


def _find_example(written: Schema, read: Schema, what: str) -> Verdict | None:
    try:
        reader = compile_schema(read)
    except InvalidSchemaError:
        return None
    for example in list_samples(written):
        violation = reader.find_violation(example)
        if violation is not None:
            place = f" at {violation.path}" if violation.path else ""
            reason = f"{what} can be refused{place}: {violation.reason}"
            return Verdict(Answer.INCOMPATIBLE, reason, violation.path, example)
    return None


class _Absence:
    """The writer's schema, with the keys that only the reader declares taken as never sent."""

    def __init__(self, written: Schema, read: Schema) -> None:
        self.written, self.read = written, read
        self.done: dict[tuple[int, int], Any] = {}

    def assume(self) -> Schema:
        return self._assume(self.written, self.read)  # type: ignore[no-any-return]

    def _assume(self, written: Any, read: Any) -> Any:
        read, target = _follow(self.read, read), _follow(self.written, written)
        if not isinstance(target, dict) or not isinstance(read, dict):
            return written
        pair = (id(target), id(read))
        if pair not in self.done:
            # A recursive schema meets this pair again while it is at work; it stays as it is there.
            self.done[pair] = target
            self.done[pair] = self._assume_below(target, read)
        changed = self.done[pair]
        if changed == target:
            return written
        # What stands beside a reference stays, above all the definitions of the root.
        return {key: value for key, value in written.items() if key != "$ref"} | changed

    def _assume_below(self, written: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
        changed = dict(written)
        own, other = written.get("properties", {}), read.get("properties", {})
        if own or other:
            both = {key: self._assume(own[key], other[key]) for key in own if key in other}
            known = _list_known_keys(self.written, written) if _is_open(written) else other
            changed["properties"] = {**own, **both, **{key: False for key in other if key not in known}}
        if isinstance(written.get("items"), dict) and isinstance(read.get("items"), dict):
            changed["items"] = self._assume(written["items"], read["items"])
        return changed


def _list_known_keys(root: Schema, schema: dict[str, Any]) -> set[str]:
    """Every key that a schema mentions for its object, in whatever alternative."""
    known: set[str] = set()
    waiting: list[Any] = [schema]
    seen: set[int] = set()
    dialect = read_dialect(root) or DRAFT_2020_12
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict) and id(current) not in seen:
            seen.add(id(current))
            known |= {*current.get("properties", ()), *current.get("required", ())}
            known |= {*current.get("dependentRequired", ()), *current.get("dependentSchemas", ())}
            waiting += [child for tokens, child in list_children(current, dialect) if tokens[0] in IN_PLACE]
            waiting.append(_follow(root, {"$ref": current["$ref"]}) if "$ref" in current else None)
    return known


def _is_open(schema: dict[str, Any]) -> bool:
    return schema.get("additionalProperties", True) is True and "patternProperties" not in schema


def _follow(root: Schema, schema: Any) -> Any:
    """The schema that a chain of plain references ends at."""
    for _ in range(_MAX_DEPTH):
        if not (isinstance(schema, dict) and isinstance(schema.get("$ref"), str)):
            return schema
        if set(schema) - {"$ref", "$schema", "$defs", "definitions"}:
            return schema
        target = find_target(root, parse_pointer(split_reference(schema["$ref"])[1]) or ())
        if target is MISSING:
            return schema
        schema = target
    return schema
