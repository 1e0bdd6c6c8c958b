from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from leanmq_topology.diagnostics import explain_code
from leanmq_topology.runner import importing
from leanmq_topology.runner.handlers import check_handlers, load_handlers
from leanmq_topology.topology.model import BrokerSettings, Handler, Topology


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A topology folder; what is imported from it is forgotten again."""
    known, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def topology(folder: Path, **calls: str) -> Topology:
    handlers = {name: Handler(name=name, queue="work", call=call) for name, call in calls.items()}
    return Topology(name="t", broker=BrokerSettings(namespace="t"), handlers=handlers, folder=folder)


REFUSED_UNSEEN = {
    "no colon": ("orders.charge", "LMQ310", "orders:charge"),
    "nothing before the colon": (":charge", "LMQ310", "package.module:function"),
    "nothing after the colon": ("orders:", "LMQ310", "orders:function"),
    "empty": ("", "LMQ310", "package.module:function"),
    "relative": (".orders:charge", "LMQ310", "whole name"),
    "a path": ("shop/orders.py:charge", "LMQ310", "shop.orders:charge"),
    "a path out of the folder": ("../orders:charge", "LMQ310", "orders:charge"),
    "a call": ("orders:charge()", "LMQ310", "package.module:function"),
    "a private function": ("orders:_charge", "LMQ311", "public"),
    "a private module": ("shop._orders:charge", "LMQ311", "public"),
    "a private attribute": ("orders:service.__class__", "LMQ311", "public"),
    "the main module": ("__main__:charge", "LMQ311", "public"),
    "a builtin": ("builtins:exec", "LMQ312", "of your own"),
    "the standard library": ("os:system", "LMQ312", "of your own"),
    "deep in the standard library": ("os.path:join", "LMQ312", "of your own"),
}


@pytest.mark.parametrize(("call", "code", "suggestion"), REFUSED_UNSEEN.values(), ids=REFUSED_UNSEEN)
def test_a_call_that_names_no_handler_is_refused_before_any_import(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: str, suggestion: str
):
    monkeypatch.setattr(importing.importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    [problem] = check_handlers(topology(folder, charge=call))
    assert (problem.code, problem.address) == (code, "handlers.charge.call")
    assert suggestion in (problem.suggestion or "")


BROKEN_MODULES = {
    "a syntax error": ("x = 1\ndef charge(data:\n    pass\n", "LMQ314", 2, "not valid Python"),
    "a missing import": ("import os\nimport nowhere_to_be_found\n", "LMQ314", 2, "nowhere_to_be_found"),
    "a name that is not there": ("from json import nothing\n", "LMQ314", 1, "nothing"),
    "an exception": ("def fail():\n    raise KeyError('card')\nfail()\n", "LMQ314", 2, "KeyError: 'card'"),
    "no ordinary exception": ("class Stop(BaseException): ...\nraise Stop\n", "LMQ314", 2, "Stop"),
    "an exit": ("import sys\n\nsys.exit(3)\n", "LMQ315", 3, "ends the program"),
    "an exit inside a library": (
        "import argparse\nargparse.ArgumentParser().error('x')\n",
        "LMQ315",
        2,
        "ends",
    ),
}


@pytest.mark.parametrize(("source", "code", "line", "reason"), BROKEN_MODULES.values(), ids=BROKEN_MODULES)
def test_a_module_that_fails_is_reported_with_its_file_and_line(
    folder: Path, source: str, code: str, line: int, reason: str
):
    (folder / "orders.py").write_text(source)
    [problem] = check_handlers(topology(folder, charge="orders:charge"))
    assert problem.code == code
    assert reason in problem.message
    assert problem.span is not None
    assert (Path(problem.span.file).name, problem.span.line) == ("orders.py", line)
    assert problem.span.source in source


def test_the_line_reported_is_where_the_failure_is_even_in_another_module(folder: Path):
    (folder / "cards.py").write_text("\n\nraise OSError('no reader')\n")
    (folder / "orders.py").write_text("import cards\n")
    [problem] = check_handlers(topology(folder, charge="orders:charge"))
    assert problem.span is not None
    assert (Path(problem.span.file).name, problem.span.line) == ("cards.py", 3)


def test_an_import_that_never_ends_is_ended_and_its_line_shown(folder: Path):
    (folder / "orders.py").write_text("while True:\n    pass\n")
    problem = importing.import_module("orders", folder, limit_seconds=0.05)
    assert isinstance(problem, importing.ImportProblem)
    assert problem.code == "LMQ315"
    assert problem.span is not None
    assert problem.span.line in {1, 2}


def test_what_a_module_prints_does_not_reach_standard_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "orders.py").write_text("print('hello')\ndef charge(data): ...\n")
    assert check_handlers(topology(folder, charge="orders:charge")) == []
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_modules_that_import_each_other_are_no_problem_when_python_has_none(folder: Path):
    (folder / "orders.py").write_text("import cards\ndef charge(data): ...\n")
    (folder / "cards.py").write_text("import orders\ndef check(data): ...\n")
    assert check_handlers(topology(folder, charge="orders:charge", check="cards:check")) == []


@pytest.mark.parametrize("call", ["nowhere:charge", "shop.nowhere:charge"])
def test_a_module_that_is_nowhere_is_said_to_be_missing(folder: Path, call: str):
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    [problem] = check_handlers(topology(folder, charge=call))
    assert problem.code == "LMQ313"
    assert str(folder) in problem.message


def test_a_mistyped_function_is_answered_with_the_closest_one(folder: Path):
    (folder / "orders.py").write_text("def charge(data): ...\n")
    [problem] = check_handlers(topology(folder, charge="orders:chrage"))
    assert (problem.code, problem.suggestion) == ("LMQ317", "did you mean 'charge'?")


def test_a_package_that_exists_twice_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("installed")
    for root in (folder, other):
        (root / "orders.py").write_text("def charge(data): ...\n")
    sys.path.append(str(other))
    [problem] = check_handlers(topology(folder, charge="orders:charge"))
    assert problem.code == "LMQ316"
    assert str(other) in problem.message


def test_an_installed_package_that_hides_a_folder_without_init_is_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    other = tmp_path_factory.mktemp("installed")
    (folder / "shop").mkdir()
    (folder / "shop" / "orders.py").write_text("def charge(data): ...\n")
    (other / "shop").mkdir()
    (other / "shop" / "__init__.py").touch()
    sys.path.append(str(other))
    [problem] = check_handlers(topology(folder, charge="shop.orders:charge"))
    assert problem.code == "LMQ316"


def test_the_folder_being_on_the_path_already_is_no_clash(folder: Path):
    (folder / "orders.py").write_text("def charge(data): ...\n")
    sys.path[:0] = [str(folder), f"{folder}/"]
    assert check_handlers(topology(folder, charge="orders:charge")) == []


DECORATOR = """
import functools
def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper
"""

ACCEPTED = {
    "def": ("def h(data): ...", False, ("data",)),
    "async def": ("async def h(data): ...", True, ("data",)),
    "all it may ask for": ("def h(data, message, mq): ...", False, ("data", "message", "mq")),
    "in any order": ("async def h(mq, *, message): ...", True, ("mq", "message")),
    "positional only": ("def h(data, /): ...", False, ("data",)),
    "other parameters with a default": ("def h(data, retries=3): ...", False, ("data",)),
    "a decorator with wraps": (
        f"{DECORATOR}\n@decorate\nasync def h(data): ...",
        True,
        ("data",),
    ),
    "a partial": (
        "import functools\ndef f(store, data): ...\nh = functools.partial(f, {})",
        False,
        ("data",),
    ),
    "a partial of an async function": (
        "import functools\nasync def f(store, data): ...\nh = functools.partial(f, {})",
        True,
        ("data",),
    ),
    "a bound method": ("class S:\n def m(self, data): ...\nh = S().m", False, ("data",)),
    "an object with __call__": ("class S:\n async def __call__(self, data): ...\nh = S()", True, ("data",)),
}


@pytest.mark.parametrize(("source", "asynchronous", "names"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_callable_of_an_accepted_kind_is_bound(
    folder: Path, source: str, asynchronous: bool, names: tuple[str, ...]
):
    (folder / "orders.py").write_text(source + "\n")
    loaded, problems = load_handlers(topology(folder, charge="orders:h"), ["charge"])
    assert problems == []
    binding = loaded["charge"].binding
    assert (binding.asynchronous, binding.names) == (asynchronous, names)


UNUSABLE = {
    "a value": ("h = 3", "LMQ318"),
    "a class": ("class h:\n def __init__(self, data): ...", "LMQ318"),
    "a partial of a class": ("import functools\nh = functools.partial(dict, data=1)", "LMQ318"),
    "a generator": ("def h(data):\n yield data", "LMQ318"),
    "an async generator": ("async def h(data):\n yield data", "LMQ318"),
    "a generator behind wraps": (
        "import functools\ndef g(data):\n yield\n@functools.wraps(g)\ndef h(data): return g(data)",
        "LMQ318",
    ),
    "an object whose __call__ is a generator": (
        "class S:\n def __call__(self, data):\n  yield\nh = S()",
        "LMQ318",
    ),
    "no parameters": ("def h(): ...", "LMQ319"),
    "an unknown parameter": ("def h(data, order): ...", "LMQ319"),
    "a near miss": ("def h(mesage): ...", "LMQ319"),
    "a decorator without wraps": (
        "def d(f):\n def w(*a, **k): return f(*a, **k)\n return w\n@d\ndef h(data): ...",
        "LMQ319",
    ),
    "written in C": ("h = dict.fromkeys", "LMQ319"),
}


@pytest.mark.parametrize(("source", "code"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_called_with_a_message_is_refused(folder: Path, source: str, code: str):
    (folder / "orders.py").write_text(source + "\n")
    [problem] = check_handlers(topology(folder, charge="orders:h"))
    assert problem.code == code
    assert problem.suggestion


def test_all_problems_are_reported_at_once_and_the_sound_handlers_load(folder: Path):
    (folder / "orders.py").write_text("def charge(data): ...\ndef other(): ...\n")
    declared = topology(
        folder, charge="orders:charge", other="orders:other", gone="orders:gone", system="os:system"
    )
    loaded, problems = load_handlers(declared, declared.handlers)
    assert list(loaded) == ["charge"]
    assert [problem.code for problem in problems] == ["LMQ319", "LMQ317", "LMQ312"]


def test_only_the_named_handlers_are_imported(folder: Path):
    (folder / "orders.py").write_text("def charge(data): ...\n")
    (folder / "mail.py").write_text("raise RuntimeError\n")
    declared = topology(folder, charge="orders:charge", mail="mail:send")
    assert load_handlers(declared, ["charge"])[1] == []


@pytest.mark.parametrize(
    "signature",
    ["data", "data, /", "*, data", "data, message", "message, data, /", "mq, *, data", "data, message, mq"],
)
def test_a_handler_gets_what_its_parameters_name(folder: Path, signature: str):
    (folder / "orders.py").write_text(f"def charge({signature}): return dict(locals())\n")
    loaded, _ = load_handlers(topology(folder, charge="orders:charge"), ["charge"])
    offer = SimpleNamespace(data={"total": 1}, message="the message")
    given = {"data": offer.data, "message": offer.message, "mq": "the client"}
    binding = loaded["charge"].binding
    assert binding.invoke(offer, "the client") == {name: given[name] for name in binding.names}


def test_a_handler_that_wants_only_data_costs_no_message(folder: Path):
    (folder / "orders.py").write_text("def charge(data): return data\n")
    loaded, _ = load_handlers(topology(folder, charge="orders:charge"), ["charge"])
    assert loaded["charge"].binding.invoke(SimpleNamespace(data=1), None) == 1


def test_a_loaded_handler_knows_where_its_function_is(folder: Path):
    (folder / "orders.py").write_text("\n\ndef charge(data): ...\n")
    loaded, _ = load_handlers(topology(folder, charge="orders:charge"), ["charge"])
    assert loaded["charge"].place == f"{folder / 'orders.py'}:3"


@pytest.mark.parametrize("number", range(310, 328))
def test_every_code_is_explained(number: int):
    explanation = explain_code(f"LMQ{number}")
    assert explanation is not None
    assert explanation.mend


def test_a_module_of_many_handlers_is_imported_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "tidy.py").write_text("def one(data): ...\ndef two(data): ...\n")
    imported, import_it = [], importing.importlib.import_module
    monkeypatch.setattr(
        importing.importlib, "import_module", lambda name: imported.append(name) or import_it(name)
    )

    loaded, problems = load_handlers(topology(folder, one="tidy:one", two="tidy:two"), ["one", "two"])

    assert (list(loaded), problems, imported) == (["one", "two"], [], ["tidy"])


def test_a_module_that_was_taken_out_since_is_imported_again(folder: Path):
    (folder / "tidy.py").write_text("def one(data): ...\n")
    first = importing.import_module("tidy", folder)
    del sys.modules["tidy"]

    assert importing.import_module("tidy", folder) is sys.modules["tidy"] is not first
