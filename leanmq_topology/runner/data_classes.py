"""Data as the class that a handler's parameter is annotated with: planned when the handler is loaded.

A TypedDict, dataclass, msgspec Struct or attrs class is made by msgspec; a pydantic model or dataclass by
pydantic, which nobody but the user imports. Plain JSON types are handed over as they are. What an annotation
promises and the message schema does not is said at the start, not message by message.
"""

from __future__ import annotations

import collections.abc
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args, get_origin

import msgspec

from leanmq_topology.contracts.fitting import Misfit, count_unknown_fields, find_misfits
from leanmq_topology.runner.annotations import NOTHING, name_of, split_union, strip_extras

Convert = Callable[[Any], Any]

_PLAIN: Final[Mapping[Any, str]] = {
    dict: "object",
    collections.abc.Mapping: "object",
    collections.abc.MutableMapping: "object",
    list: "array",
    collections.abc.Sequence: "array",
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
}
"""Types that JSON data has already."""
_LISTS: Final = frozenset(
    {list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection}
)


class Conversion(msgspec.Struct, frozen=True):
    """How data becomes what the handler wants."""

    by_type: Mapping[str, Arm]
    """By message type."""
    otherwise: Arm | None = None
    """For messages of other types, where the queue takes any."""

    def of(self, kind: str) -> Arm | None:
        return self.by_type.get(kind, self.otherwise)


class Arm(msgspec.Struct, frozen=True):
    """One class that data may be made into."""

    name: str
    shape: Any
    """Its JSON Schema."""
    convert: Convert | None
    """None: data is handed over as it is."""


class Misplanned(msgspec.Struct, frozen=True):
    """What is wrong with an annotation."""

    code: str
    reason: str
    suggestion: str


def plan_conversion(
    annotation: Any, schemas: Mapping[str, Any], *, batch: bool, open_ended: bool
) -> Conversion | list[Misplanned] | None:
    """How to serve this annotation for messages of these schemas by type; None if there is nothing to do.

    `open_ended`: the queue takes messages of any type, so nothing is certain about what comes.
    """
    if annotation is NOTHING:
        return None
    if batch:
        element = _element_of(annotation)
        if element is None:
            reason = f"a batch handler gets lists, and its data is annotated {name_of(annotation)}"
            return [Misplanned("LMQ326", reason, "annotate it list[…]")]
        annotation = element
        if annotation in (NOTHING, Any, object):
            return None
    arms = [_read_arm(part) for part in split_union(annotation)]
    problems = [arm for arm in arms if isinstance(arm, Misplanned)]
    if problems:
        return problems
    sound = [arm for arm in arms if isinstance(arm, Arm)]
    return _choose_arms(sound, schemas, open_ended=open_ended)


def _element_of(annotation: Any) -> Any:
    """What a list is annotated to hold; None if the annotation is not that of a list."""
    bare = strip_extras(annotation)
    if bare in _LISTS:
        return NOTHING
    return get_args(bare)[0] if get_origin(bare) in _LISTS else None


def _choose_arms(
    arms: Sequence[Arm], schemas: Mapping[str, Any], *, open_ended: bool
) -> Conversion | list[Misplanned] | None:
    by_type: dict[str, Arm] = {}
    problems: list[Misplanned] = []
    for kind, schema in {} if open_ended else schemas.items():
        chosen = _choose(arms, kind, schema)
        if isinstance(chosen, Arm):
            by_type[kind] = chosen
        else:
            problems += chosen
    made = [arm for arm in arms if arm.convert is not None]
    if open_ended and len(arms) > 1 and made:
        problems.append(_ambiguous(arms, "a message of any type"))
    if problems:
        return problems
    if not made:
        return None
    return Conversion(by_type, made[0] if open_ended else None)


def _choose(arms: Sequence[Arm], kind: str, schema: Any) -> Arm | list[Misplanned]:
    """The arm that fits messages of this type, and has a place for most of their fields."""
    misfits = [find_misfits(schema, arm.shape, arm.name) for arm in arms]
    fitting = [arm for arm, found in zip(arms, misfits, strict=True) if not found]
    if not fitting:
        return [_misfit(kind, found) for each in misfits for found in each]
    ranked = sorted(fitting, key=lambda arm: _looseness(arm, schema))
    if len(ranked) > 1 and _looseness(ranked[0], schema) == _looseness(ranked[1], schema):
        return [_ambiguous(ranked[:2], kind)]
    return ranked[0]


def _looseness(arm: Arm, schema: Any) -> tuple[bool, int]:
    return arm.convert is None, count_unknown_fields(schema, arm.shape)


def _misfit(kind: str, found: Misfit) -> Misplanned:
    return Misplanned(
        "LMQ326",
        f"its data does not fit {kind}: {found.path or 'the data'} {found.reason}",
        "change the schema or the class, or give the field a default",
    )


def _ambiguous(arms: Sequence[Arm], kind: str) -> Misplanned:
    names = " and ".join(arm.name for arm in arms)
    return Misplanned(
        "LMQ327",
        f"{kind} fits {names} alike, so which of them its data becomes cannot be told",
        "take `message` too and go by message.type, or give each type a queue of its own",
    )


# -- one class -------------------------------------------------------------------------------------------


def _read_arm(annotation: Any) -> Arm | Misplanned:
    bare = strip_extras(annotation)
    name = name_of(bare)
    if _is_plain(bare):
        return Arm(name, {"type": _PLAIN[get_origin(bare) or bare]}, None)
    if bare in (Any, object):
        return Arm("Any", {}, None)
    try:
        if _holds_pydantic(bare):
            adapter = sys.modules["pydantic"].TypeAdapter(annotation)
            return Arm(name, adapter.json_schema(), adapter.validate_python)
        shape = msgspec.json.schema(bare)
    except Exception as failure:
        text = str(failure).strip().splitlines()
        reason = (
            f"its data is annotated {name}, which cannot be made from JSON ({text[-1] if text else failure})"
        )
        wanted = "use a dataclass, TypedDict, msgspec Struct or pydantic model, or take the data as a dict"
        return Misplanned("LMQ325", reason, wanted)
    return Arm(name, shape, functools.partial(_convert, bare))


def _is_plain(annotation: Any) -> bool:
    """Whether JSON data has this type as it is, all the way down."""
    parts = [part for inner in get_args(annotation) for part in split_union(inner)]
    return (get_origin(annotation) or annotation) in _PLAIN and all(
        part in (Any, object) or _is_plain(part) for part in parts
    )


def _holds_pydantic(annotation: Any) -> bool:
    """Whether pydantic has to make it; it is imported already if so."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return False
    if isinstance(annotation, type) and (
        issubclass(annotation, pydantic.BaseModel) or hasattr(annotation, "__pydantic_validator__")
    ):
        return True
    return any(_holds_pydantic(part) for part in get_args(annotation))


def _convert(wanted: Any, data: Any) -> Any:
    try:
        return msgspec.convert(data, wanted)
    except msgspec.ValidationError:
        # JSON Schema takes 5.0 for an integer and msgspec does not; whoever sent it wrote a valid message.
        repaired = _with_integers(data)
        if repaired == data and repr(repaired) == repr(data):
            raise
        return msgspec.convert(repaired, wanted)


def _with_integers(data: Any) -> Any:
    match data:
        case float() if data.is_integer():
            return int(data)
        case dict():
            return {key: _with_integers(value) for key, value in data.items()}
        case list():
            return [_with_integers(value) for value in data]
        case _:
            return data


def describe_failure(failure: Exception) -> str:
    """Why data did not become the class, in one line."""
    errors = getattr(failure, "errors", None)
    if callable(errors) and hasattr(failure, "error_count"):  # pydantic's
        return "; ".join(_pydantic_lines(errors()))
    return str(failure).strip().partition("\n")[0] or type(failure).__name__


def _pydantic_lines(errors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for error in errors[:3]:
        path = "/".join(map(str, error["loc"]))
        yield f"at /{path}: {error['msg']}"
