"""Lifespan and middleware as they are named in a file: found, checked, and handed to handlers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.runner.handlers import load_handlers
from leanmq_topology.topology.model import BrokerSettings, Handler, Topology

LIFESPAN = """
from contextlib import asynccontextmanager
@asynccontextmanager
async def open():
    yield {"db": 1}
"""
HANDLER = "async def charge(data, db): ...\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A topology folder; what is imported from it is forgotten again."""
    known, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def problems(
    folder: Path,
    *,
    lifespan: str | None = None,
    middleware: str | None = None,
    handlers: str = "async def charge(data): ...\n",
    calls: tuple[str, ...] = ("charge",),
) -> list[Diagnostic]:
    """What is found wrong with these sources."""
    (folder / "shop_handlers.py").write_text(handlers)
    (folder / "shop_resources.py").write_text(lifespan or "")
    (folder / "shop_tracing.py").write_text(middleware or "")
    declared = Topology(
        name="t",
        broker=BrokerSettings(namespace="t"),
        handlers={name: Handler(name=name, queue="work", call=f"shop_handlers:{name}") for name in calls},
        lifespan="shop_resources:open" if lifespan is not None else None,
        middleware=("shop_tracing:Trace",) if middleware is not None else (),
        folder=folder,
    )
    return load_handlers(declared, calls)[1]


# -- lifespan --------------------------------------------------------------------------------------------

LIFESPANS = {
    "an asynccontextmanager": LIFESPAN,
    "a bare async generator": "async def open():\n yield {'db': 1}\n",
    "a class": "class open:\n async def __aenter__(self): ...\n async def __aexit__(self, *_): ...\n",
    "a function with defaults": "async def open(url='x'):\n yield {'db': 1}\n",
}


@pytest.mark.parametrize("source", LIFESPANS.values(), ids=LIFESPANS)
def test_an_asynchronous_context_manager_is_a_lifespan(folder: Path, source: str):
    assert problems(folder, lifespan=source, handlers=HANDLER) == []


REFUSED_LIFESPANS = {
    "a value": ("open = 3\n", "LMQ322"),
    "a blocking context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef open():\n yield\n",
        "LMQ322",
    ),
    "a blocking generator": ("def open():\n yield\n", "LMQ322"),
    "a function that returns": ("async def open():\n return 1\n", "LMQ322"),
    "a class without __aenter__": ("class open: ...\n", "LMQ322"),
    "one that wants arguments": ("async def open(url):\n yield\n", "LMQ322"),
    "nothing of that name": ("async def opened():\n yield\n", "LMQ317"),
    "a module that fails": ("raise OSError('no')\n", "LMQ314"),
}


@pytest.mark.parametrize(("source", "code"), REFUSED_LIFESPANS.values(), ids=REFUSED_LIFESPANS)
def test_anything_else_is_refused_at_the_key_that_names_it(folder: Path, source: str, code: str):
    [problem] = problems(folder, lifespan=source)
    assert (problem.code, problem.address) == (code, "lifespan")


def test_without_a_lifespan_a_handler_may_want_nothing_of_it(folder: Path):
    [problem] = problems(folder, handlers=HANDLER)
    assert (problem.code, problem.address) == ("LMQ319", "handlers.charge.call")


TYPED_LIFESPAN = """
import typing, dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
{kind}
class Shared{base}:
    database: int
    cache: int
@asynccontextmanager
async def open() -> AsyncIterator[Shared]:
    yield Shared(database=1, cache=2)
"""


@pytest.mark.parametrize(("kind", "base"), [("@dataclasses.dataclass", ""), ("", "(typing.TypedDict)")])
def test_what_an_annotated_lifespan_does_not_yield_is_known_before_it_is_opened(
    folder: Path, kind: str, base: str
):
    handlers = (
        "async def charge(data, databse): ...\ndef keep(data, cache): ...\ndef other(data, nowhere): ...\n"
    )
    found = problems(
        folder,
        lifespan=TYPED_LIFESPAN.format(kind=kind, base=base),
        handlers=handlers,
        calls=("charge", "keep", "other"),
    )
    assert [(item.code, item.address) for item in found] == [
        ("LMQ323", "handlers.charge.call"),
        ("LMQ323", "handlers.other.call"),
    ]
    assert found[0].suggestion == "did you mean 'database'?"
    assert found[0].span is not None
    assert (Path(found[0].span.file).name, found[0].span.line) == ("shop_handlers.py", 1)


@pytest.mark.parametrize(
    "signature",
    [
        "data, db",
        "db, data",
        "data, *, db",
        "data, db, /",
        "db, data, /",
        "*, db, message, data",
        "data, db=0",
    ],
)
def test_shared_things_are_handed_over_by_name(folder: Path, signature: str):
    (folder / "shop_handlers.py").write_text(f"def charge({signature}): return dict(locals())\n")
    (folder / "shop_resources.py").write_text(LIFESPAN)
    declared = Topology(
        name="t",
        broker=BrokerSettings(namespace="t"),
        handlers={"charge": Handler(name="charge", queue="work", call="shop_handlers:charge")},
        lifespan="shop_resources:open",
        folder=folder,
    )
    loaded, found = load_handlers(declared, ["charge"])
    assert found == []
    given = {"data": {"total": 1}, "message": "the message", "db": "the database"}
    offer = SimpleNamespace(data=given["data"], message=given["message"])
    result = loaded["charge"].binding.prepare({"db": "the database"})(offer, None)
    assert result == {name: given[name] for name in result}
    assert "db" in result


# -- middleware ------------------------------------------------------------------------------------------

BOTH = """
class Trace:
    async def around(self, message, call_next): return await call_next(message)
    def around_sync(self, message, call_next): return call_next(message)
"""
ASYNC_ONLY = "class Trace:\n async def around(self, message, call_next): return await call_next(message)\n"
SYNC_ONLY = "class Trace:\n def around_sync(self, message, call_next): return call_next(message)\n"


@pytest.mark.parametrize(
    ("source", "handlers"),
    [
        (BOTH, "async def charge(data): ..."),
        (BOTH, "def charge(data): ..."),
        (ASYNC_ONLY, "async def charge(data): ..."),
        (SYNC_ONLY, "def charge(data): ..."),
    ],
)
def test_a_class_with_the_methods_that_its_handlers_need_is_middleware(
    folder: Path, source: str, handlers: str
):
    assert problems(folder, middleware=source, handlers=handlers) == []


@pytest.mark.parametrize(
    ("source", "handlers", "method"),
    [
        (ASYNC_ONLY, "\ndef charge(data): ...", "around_sync"),
        (SYNC_ONLY, "\nasync def charge(data): ...", "around"),
    ],
)
def test_middleware_that_would_miss_a_handler_is_refused_with_the_line_of_the_handler(
    folder: Path, source: str, handlers: str, method: str
):
    [problem] = problems(folder, middleware=source, handlers=handlers)
    assert (problem.code, problem.address) == ("LMQ321", "handlers.charge.call")
    assert f"has no {method}" in problem.message
    assert problem.span is not None
    assert problem.span.line == 2


REFUSED_MIDDLEWARE = {
    "a function": ("async def Trace(message, call_next): ...\n", "it is not a class"),
    "an object": ("class T: ...\nTrace = T()\n", "it is not a class"),
    "a class without the methods": ("class Trace: ...\n", "neither around nor around_sync"),
    "a blocking around": ("class Trace:\n def around(self, message, call_next): ...\n", "not `async def`"),
    "an asynchronous around_sync": (
        "class Trace:\n async def around_sync(self, message, call_next): ...\n",
        "is `async def`",
    ),
    "too few parameters": ("class Trace:\n async def around(self, message): ...\n", "does not take"),
    "an __init__ with arguments": (f"{BOTH}    def __init__(self, url): ...\n", "__init__ wants arguments"),
}


@pytest.mark.parametrize(("source", "reason"), REFUSED_MIDDLEWARE.values(), ids=REFUSED_MIDDLEWARE)
def test_what_cannot_stand_around_a_handler_is_refused(folder: Path, source: str, reason: str):
    [problem] = problems(folder, middleware=source)
    assert (problem.code, problem.address) == ("LMQ320", "middleware[0]")
    assert reason in problem.message


def test_everything_that_is_wrong_is_said_at_once(folder: Path):
    found = problems(
        folder, lifespan="open = 3\n", middleware="class Trace: ...\n", handlers="def charge(): ...\n"
    )
    assert [item.code for item in found] == ["LMQ322", "LMQ320", "LMQ319"]
