"""The annotations of a handler's parameters, held against what they will be given."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final, get_origin

from leanmq_topology.messages.message import Message
from leanmq_topology.runner.annotations import NOTHING, UnresolvedError, name_of, read_annotation, split_union
from leanmq_topology.runner.binding import Binding
from leanmq_topology.runner.data_classes import Conversion, Misplanned, plan_conversion
from leanmq_topology.topology.model import Handler, Topology


def check_annotations(
    handler: Handler, binding: Binding, topology: Topology
) -> tuple[Conversion | None, list[Misplanned]]:
    """How its data is converted, if it is; and everything that is wrong with what its parameters promise."""
    annotations: dict[str, Any] = {}
    problems: list[Misplanned] = []
    for name in binding.names:
        try:
            annotations[name] = read_annotation(binding.function, name)
        except UnresolvedError as failure:
            problems.append(_unresolved(name, failure))
    problems += _check_message(annotations.get("message", NOTHING), batch=handler.batch is not None)
    problems += _check_client(annotations.get("mq", NOTHING), asynchronous=binding.asynchronous)
    conversion = _plan(annotations.get("data", NOTHING), handler, topology)
    if isinstance(conversion, list):
        return None, problems + conversion
    return conversion, problems


def _plan(annotation: Any, handler: Handler, topology: Topology) -> Conversion | list[Misplanned] | None:
    queue = topology.queues.get(handler.queue)
    accepts = queue.accepts if queue is not None else ()
    schemas = {name: topology.messages[name].schema for name in accepts if name in topology.messages}
    return plan_conversion(
        annotation,
        schemas,
        batch=handler.batch is not None,
        open_ended=len(schemas) < len(accepts) or not accepts,
    )


def _unresolved(name: str, failure: UnresolvedError) -> Misplanned:
    return Misplanned(
        "LMQ324",
        f"the annotation of its parameter {name!r} cannot be resolved ({failure})",
        "import what it names where the program runs, not only under TYPE_CHECKING",
    )


_NO_MESSAGE: Final = frozenset({dict, str, int, float, bool, Mapping, MutableMapping})


def _check_message(annotation: Any, *, batch: bool) -> list[Misplanned]:
    """`message` is a Message; of a batch handler, a list of them. What may be one, a protocol say, passes."""
    wanted = "list[Message]" if batch else "Message"
    wrong = _NO_MESSAGE | ({Message} if batch else {list, Sequence})
    if not all((get_origin(arm) or arm) in wrong for arm in split_union(annotation)):
        return []
    reason = f"its parameter 'message' gets a {wanted}, and is annotated {name_of(annotation)}"
    return [Misplanned("LMQ326", reason, f"annotate it {wanted}; the data alone is the parameter `data`")]


def _check_client(annotation: Any, *, asynchronous: bool) -> list[Misplanned]:
    """`mq` is of the handler's colour; other annotations, such as a protocol, are the user's affair."""
    if annotation is NOTHING:
        return []
    from leanmq_topology.client import Client, SyncClient

    kind = "async def" if asynchronous else "def"
    given, other = (Client, SyncClient) if asynchronous else (SyncClient, Client)
    arms = split_union(annotation)
    if other not in arms or given in arms:
        return []
    reason = f"it is `{kind}`, so its parameter 'mq' gets a {given.__name__}, not a {other.__name__}"
    return [Misplanned("LMQ326", reason, f"annotate it {given.__name__}")]
