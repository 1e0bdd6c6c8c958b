"""Data as the class that a handler is annotated with, and what is wrong with annotations."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.runner.handlers import LoadedHandler, load_handlers
from leanmq_topology.topology.model import Batch, BrokerSettings, Handler, MessageType, Queue, Topology
from tests.support.promises import lack

PLACED = {
    "type": "object",
    "required": ["order_id", "total"],
    "properties": {
        "order_id": {"type": "string"},
        "total": {"type": "number"},
        "note": {"type": ["string", "null"]},
        "at": {"type": "string"},
    },
}
CANCELLED = {
    "type": "object",
    "required": ["order_id", "reason"],
    "properties": {"order_id": {"type": "string"}, "reason": {"type": "string"}},
}
HEAD = """
import dataclasses, datetime, typing
from typing import *
import msgspec
from leanmq_topology import Client, Message, SyncClient
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A topology folder; what is imported from it is forgotten again."""
    known, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if name.startswith("typed_"):
            del sys.modules[name]


def load(
    folder: Path, source: str, *accepts: str, batch: bool = False
) -> tuple[LoadedHandler | None, list[Diagnostic]]:
    """The handler `charge` of this source, for a queue that accepts these; and what is wrong with it."""
    if "pydantic" in source and importlib.util.find_spec("pydantic") is None:
        lack("pydantic is not installed")
    (folder / "typed_handlers.py").write_text(HEAD + source)
    schemas = {"order.placed": PLACED, "order.cancelled": CANCELLED}
    handler = Handler(
        name="charge", queue="work", call="typed_handlers:charge", batch=Batch(size=5) if batch else None
    )
    declared = Topology(
        name="t",
        broker=BrokerSettings(namespace="t"),
        messages={name: MessageType(name=name, schema=schema) for name, schema in schemas.items()},
        queues={"work": Queue(name="work", accepts=accepts)},
        handlers={"charge": handler},
        folder=folder,
    )
    loaded, problems = load_handlers(declared, ["charge"])
    return loaded.get("charge"), problems


def convert(loaded: LoadedHandler | None, kind: str, data: Any) -> Any:
    assert loaded is not None
    assert loaded.conversion is not None
    arm = loaded.conversion.of(kind)
    assert arm is not None
    assert arm.convert is not None
    return arm.convert(data)


CLASSES = {
    "dataclass": (
        "@dataclasses.dataclass\nclass Order:\n order_id: str\n total: float\n note: str | None = None"
    ),
    "Struct": "class Order(msgspec.Struct):\n order_id: str\n total: float\n note: str | None = None",
    "TypedDict": "class Order(TypedDict):\n order_id: str\n total: float\n note: NotRequired[str | None]",
    "pydantic model": (
        "import pydantic\nclass Order(pydantic.BaseModel):\n order_id: str\n total: float\n"
        " note: str | None = None"
    ),
    "pydantic dataclass": (
        "import pydantic.dataclasses as p\n@p.dataclass\nclass Order:\n order_id: str\n total: float"
    ),
}


@pytest.mark.parametrize("source", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize(
    "annotation", ["Order", "'Order'", "Order | None", "Annotated[Order, 'x']", "Optional[Order]"]
)
def test_data_becomes_what_it_is_annotated_with(folder: Path, source: str, annotation: str):
    loaded, problems = load(folder, f"{source}\ndef charge(data: {annotation}): ...\n", "order.placed")
    assert problems == []
    order = convert(loaded, "order.placed", {"order_id": "A-1", "total": 5, "extra": True})
    total = order["total"] if isinstance(order, dict) else order.total
    assert (type(order).__name__, total) == ("dict" if isinstance(order, dict) else "Order", 5.0)
    assert isinstance(total, float)


@pytest.mark.parametrize(
    "annotation", ["dict", "dict[str, Any]", "Mapping[str, int]", "Any", "object", "dict | None", "'dict'"]
)
def test_plain_data_is_handed_over_as_it_is(folder: Path, annotation: str):
    loaded, problems = load(folder, f"def charge(data: {annotation}): ...\n", "order.placed")
    assert problems == []
    assert loaded is not None
    assert loaded.conversion is None


def test_an_annotated_handler_of_a_queue_that_takes_anything_gets_its_class_unchecked(folder: Path):
    source = "class Order(msgspec.Struct):\n whatever: int\ndef charge(data: Order): ...\n"
    loaded, problems = load(folder, source)
    assert problems == []
    assert convert(loaded, "", {"whatever": 3}).whatever == 3


def test_the_elements_of_a_batch_become_the_class(folder: Path):
    source = f"{CLASSES['Struct']}\ndef charge(data: list[Order], message: list[Message]): ...\n"
    loaded, problems = load(folder, source, "order.placed", batch=True)
    assert problems == []
    assert convert(loaded, "order.placed", {"order_id": "A-1", "total": 1}).order_id == "A-1"


def test_richer_types_are_made_too_and_an_integer_may_be_written_as_a_float(folder: Path):
    source = (
        "class Order(msgspec.Struct):\n order_id: str\n at: datetime.datetime | None = None\n n: int = 0\n"
        "def charge(data: Order): ...\n"
    )
    loaded, problems = load(folder, source, "order.placed")
    assert problems == []
    order = convert(loaded, "order.placed", {"order_id": "A", "at": "2026-01-01T00:00:00Z", "n": 5.0})
    assert (order.at.year, order.n, type(order.n)) == (2026, 5, int)


CANCEL = "class Cancel(msgspec.Struct):\n order_id: str\n reason: str\n"


def test_of_a_union_the_class_is_chosen_by_the_message_type(folder: Path):
    source = f"{CLASSES['dataclass']}\n{CANCEL}def charge(data: Cancel | Order): ...\n"
    loaded, problems = load(folder, source, "order.placed", "order.cancelled")
    assert problems == []
    assert type(convert(loaded, "order.placed", {"order_id": "A", "total": 1})).__name__ == "Order"
    assert type(convert(loaded, "order.cancelled", {"order_id": "A", "reason": "x"})).__name__ == "Cancel"


def test_the_class_with_a_place_for_most_fields_is_chosen(folder: Path):
    source = (
        "class Little(msgspec.Struct):\n order_id: str\n"
        "class Much(msgspec.Struct):\n order_id: str\n total: float\n note: str | None = None\n"
        "def charge(data: Little | Much | dict): ...\n"
    )
    loaded, problems = load(folder, source, "order.placed")
    assert problems == []
    assert type(convert(loaded, "order.placed", {"order_id": "A", "total": 1})).__name__ == "Much"


def test_where_no_class_fits_a_type_plain_data_may_stand_in(folder: Path):
    source = f"{CLASSES['dataclass']}\ndef charge(data: Order | dict): ...\n"
    loaded, problems = load(folder, source, "order.placed", "order.cancelled")
    assert problems == []
    assert loaded is not None
    assert loaded.conversion is not None
    arm = loaded.conversion.of("order.cancelled")
    assert arm is not None
    assert arm.convert is None


WRONG = {
    "a missing field": (
        "class Order(msgspec.Struct):\n order_id: str\n vat: float\ndef charge(data: Order): ...",
        "LMQ326",
        ["/vat is no field of the schema, and Order requires it"],
    ),
    "an optional field": (
        "class Order(TypedDict):\n order_id: str\n note: str | None\ndef charge(data: Order): ...",
        "LMQ326",
        ["/note may be left out, and Order requires it"],
    ),
    "wrong types, all of them": (
        "@dataclasses.dataclass\nclass Order:\n order_id: int\n total: int\ndef charge(data: Order): ...",
        "LMQ326",
        ["/order_id may be a string", "/total may be a number with a fraction"],
    ),
    "in pydantic": (
        (
            "import pydantic\nclass Order(pydantic.BaseModel):\n order_id: int\n total: float\n"
            "def charge(data: Order): ..."
        ),
        "LMQ326",
        ["/order_id may be a string"],
    ),
    "a list of an object": ("def charge(data: list): ...", "LMQ326", ["may be an object"]),
    "message as a dict": ("def charge(message: dict): ...", "LMQ326", ["gets a Message"]),
    "the client of the other colour": (
        "async def charge(data, mq: SyncClient): ...",
        "LMQ326",
        ["gets a Client, not a SyncClient"],
    ),
    "and the other way round": ("def charge(data, mq: Client): ...", "LMQ326", ["gets a SyncClient"]),
    "a name only type checkers see": (
        "if TYPE_CHECKING:\n from nowhere import Order\ndef charge(data: 'Order'): ...",
        "LMQ324",
        ["'data' cannot be resolved (NameError: name 'Order' is not defined)"],
    ),
    "an ordinary class": (
        "class Order:\n pass\ndef charge(data: Order): ...",
        "LMQ325",
        ["annotated Order, which cannot be made from JSON"],
    ),
    "two classes alike": (
        (
            "class A(msgspec.Struct):\n order_id: str\nclass B(msgspec.Struct):\n order_id: str\n"
            "def charge(data: A | B): ..."
        ),
        "LMQ327",
        ["fits A and B alike"],
    ),
}


@pytest.mark.parametrize(("source", "code", "reasons"), WRONG.values(), ids=WRONG)
def test_what_an_annotation_gets_wrong_is_reported_with_the_line_of_the_handler(
    folder: Path, source: str, code: str, reasons: list[str]
):
    loaded, problems = load(folder, f"{source}\n", "order.placed")
    assert loaded is None
    assert [problem.code for problem in problems] == [code] * len(reasons)
    for problem, reason in zip(problems, reasons, strict=True):
        assert reason in problem.message
        assert problem.suggestion
        assert problem.span is not None
        assert Path(problem.span.file).name == "typed_handlers.py"
        assert "def charge" in problem.span.source


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ("data: dict", "a batch handler gets lists"),
        ("message: Message", "gets a list[Message]"),
        ("data: list[int]", "may be an object"),
    ],
)
def test_a_batch_handler_is_annotated_with_lists(folder: Path, parameters: str, reason: str):
    _, [problem] = load(folder, f"def charge({parameters}): ...\n", "order.placed", batch=True)
    assert problem.code == "LMQ326"
    assert reason in problem.message


@pytest.mark.parametrize(
    "parameters",
    [
        "data",
        "data: list",
        "data: list[dict]",
        "data: Sequence[Any]",
        "message: list[Message]",
        "message: list",
    ],
)
def test_lists_of_what_is_not_said_are_fine_for_a_batch_handler(folder: Path, parameters: str):
    _, problems = load(folder, f"def charge({parameters}): ...\n", "order.placed", batch=True)
    assert problems == []
