"""Import one module of the user's and live to tell what went wrong, with file and line.

A module may do anything when it is imported: fail, exit, print, fork, never end. None of that may take the
loader down, and each becomes one `ImportProblem`.
"""

from __future__ import annotations

import contextlib
import importlib
import linecache
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType, TracebackType

from msgspec import Struct

from leanmq_topology.diagnostics import Span

IMPORT_LIMIT_SECONDS = 10.0
"""How long importing one handler module may take."""


class ImportProblem(Struct, frozen=True):
    code: str
    reason: str
    suggestion: str | None = None
    span: Span | None = None


class _ImportTooSlowError(BaseException):
    """Raised into an import that takes too long; a BaseException, so that `except Exception` lets it pass."""


_found: set[tuple[str, Path]] = set()
"""Packages that are in one place only, by the topology's folder: Python looks for each once, and so do we."""
_imported: dict[tuple[str, Path], ModuleType] = {}
"""What was imported before: fifty handlers may stand in one module."""


def import_module(
    name: str, folder: Path, *, limit_seconds: float = IMPORT_LIMIT_SECONDS
) -> ModuleType | ImportProblem:
    """Import a module, looked for in `folder` first and then among what is installed."""
    known = _imported.get((name, folder))
    if known is not None and sys.modules.get(name) is known:
        return known
    put_first(folder)
    package = name.partition(".")[0]
    if (package, folder) not in _found:
        clash = find_clash(package, folder)
        if clash is not None:
            return clash
        _found.add((package, folder))
    process = os.getpid()
    try:
        with contextlib.redirect_stdout(sys.stderr), _limited(limit_seconds):
            module = _imported[name, folder] = importlib.import_module(name)
            return module
    except BaseException as failure:
        if isinstance(failure, KeyboardInterrupt):
            raise
        return _explain(name, folder, failure)
    finally:
        if os.getpid() != process:
            os._exit(1)  # a child forked by the module came back here: it must not become a second worker


def put_first(folder: Path) -> None:
    """The topology's folder is the first root; it stays there, for handlers that import later."""
    root = str(folder.resolve())
    if sys.path[:1] != [root]:
        sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]
        importlib.invalidate_caches()


def find_clash(package: str, folder: Path) -> ImportProblem | None:
    """The same outermost name in the topology's folder and among the installed packages, if there is."""
    root = str(folder.resolve())
    ours = PathFinder.find_spec(package, [root])
    if ours is None:
        return None
    others = [entry for entry in sys.path if entry and str(Path(entry).resolve()) != root]
    theirs = PathFinder.find_spec(package, others)
    # Portions of a namespace package may lie in several places; only a regular module hides another.
    if theirs is None or theirs.origin is None or _home(theirs) == _home(ours):
        return None
    return ImportProblem(
        "LMQ316",
        f"{package!r} is both in {root} and in {Path(theirs.origin).parent}",
        "rename one of the two, so that nobody has to know which one wins",
    )


def _home(spec: ModuleSpec) -> Path | None:
    return Path(spec.origin).resolve() if spec.origin else None


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End the block after `seconds`; only the main thread of a POSIX system can, others go unlimited."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _ImportTooSlowError

    former = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _explain(name: str, folder: Path, failure: BaseException) -> ImportProblem:
    match failure:
        case ModuleNotFoundError() if failure.name and f"{name}.".startswith(f"{failure.name}."):
            where = f"neither in {folder.resolve()} nor installed"
            return ImportProblem(
                "LMQ313", f"there is no module {failure.name!r}, {where}", "check the name, or install it"
            )
        case SyntaxError() if failure.filename and failure.lineno:
            reason = f"module {name!r} is not valid Python: {failure.msg}"
            return ImportProblem("LMQ314", reason, None, _span_of_syntax_error(failure))
        case SystemExit():
            reason = f"module {name!r} ends the program when it is imported ({failure!r})"
            advice = 'guard it with `if __name__ == "__main__":`'
            return ImportProblem("LMQ315", reason, advice, find_own_span(failure.__traceback__, folder))
        case _ImportTooSlowError():
            reason = f"importing module {name!r} did not end in time"
            advice = "do lasting work in the handler, not when the module is imported"
            return ImportProblem("LMQ315", reason, advice, find_own_span(failure.__traceback__, folder))
        case _:
            reason = f"module {name!r} cannot be imported: {describe(failure)}"
            return ImportProblem("LMQ314", reason, None, find_own_span(failure.__traceback__, folder))


def describe(failure: BaseException) -> str:
    """`ValueError: text`, or the type alone when it says nothing."""
    text = "".join(traceback.format_exception_only(failure)).strip().splitlines()
    return text[-1] if text else type(failure).__name__


def _span_of_syntax_error(failure: SyntaxError) -> Span:
    column = max(failure.offset or 1, 1)
    source = (failure.text or "").rstrip("\n")
    return Span(str(failure.filename), failure.lineno or 1, column, 1, source)


def find_own_span(trace: TracebackType | None, folder: Path) -> Span | None:
    """The innermost line that is the user's: below the topology's folder, else the innermost at all."""
    root = str(folder.resolve())
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen")
    ]
    own = [frame for frame in frames if str(Path(frame.filename).resolve()).startswith(root)]
    for frame in reversed(own or frames):
        if frame.lineno is not None:
            return span_at(frame.filename, frame.lineno)
    return None


def span_at(file: str, line: int) -> Span:
    """A whole source line, as a place to point at."""
    source = linecache.getline(file, line).rstrip("\n")
    indent = len(source) - len(source.lstrip())
    return Span(file, line, indent + 1, max(len(source) - indent, 1), source)
