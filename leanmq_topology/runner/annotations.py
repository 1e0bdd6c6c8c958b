"""What a parameter of a handler is annotated with, as the object that the annotation means."""

from __future__ import annotations

import sys
import types
import typing
from typing import Any, Final

from leanmq_topology.runner.references import find_function

NOTHING: Final = object()
"""No annotation, or one that says nothing: `Any`, `object`."""


class UnresolvedError(Exception):
    """An annotation names something that is not there when the program runs. Stays inside the package."""


def read_annotation(handler: Any, name: str) -> Any:
    """The annotation of one parameter; raises `UnresolvedError`. Others are not looked at."""
    function = find_function(handler)
    annotations = _raw_annotations(function)
    if name not in annotations:
        return NOTHING

    def holder() -> None: ...

    holder.__annotations__ = {name: annotations[name]}
    try:
        found = typing.get_type_hints(
            holder, globalns=getattr(function, "__globals__", {}), include_extras=True
        )[name]
    except Exception as failure:
        raise UnresolvedError(f"{type(failure).__name__}: {failure}") from failure
    return NOTHING if found in (Any, object) else found


def _raw_annotations(function: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return dict(annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF))
    return getattr(function, "__annotations__", {})


def split_union(annotation: Any) -> list[Any]:
    """The arms of a union, `None` left out; anything else alone."""
    annotation = strip_extras(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [
            arm for part in typing.get_args(annotation) for arm in split_union(part) if arm is not type(None)
        ]
    return [annotation]


def strip_extras(annotation: Any) -> Any:
    """What `Annotated[…]` is about."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def name_of(annotation: Any) -> str:
    """As a user would write it."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
