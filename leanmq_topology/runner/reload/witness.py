"""Which of the user's files a process imported, told by the import system; always in their newest form.

Told is also what an import looked for in vain, and the module that failed: mending them makes the next try
succeed, and neither is in `sys.modules`.

Cached bytecode is passed over for these files. Python takes it for current when size and date (to the second)
of the source are the same, so two saves within a second could have the new process run the old code.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import leanmq_topology
from leanmq_topology.runner.reload.snapshot import ABSENT, Snapshot, digest, digest_file

PACKAGE = Path(leanmq_topology.__file__).parent


class ImportWitness:
    """Stands first among the finders, finds local modules and remembers what was asked for.

    Local is what is neither installed nor part of Python: the topology's folder, and checkouts that are
    installed editably.
    """

    def __init__(self) -> None:
        self.seen: dict[Path, str] = {}
        """Digests of what was read, to the byte; `ABSENT` for what was looked for in vain."""
        self.on_more: Callable[[Snapshot], None] = lambda more: None
        """Called with what is new in `seen`, in the thread that imports."""
        self._foreign = list(_foreign_folders())
        self._there_before = frozenset(sys.modules)

    def start(self) -> None:
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called for each import that is not in `sys.modules`; None leaves it to Python's own finders."""
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            self._await(name.rpartition(".")[2], sys.path if path is None else path)
        elif spec.origin is not None and spec.has_location and self._is_local(file := _absolute(spec.origin)):
            if type(spec.loader) is SourceFileLoader:
                spec.loader = FreshLoader(name, spec.origin, self)
                return spec
            self.note({file: digest_file(file)})
        return None

    def note(self, read: Snapshot) -> None:
        more = {path: content for path, content in read.items() if self.seen.get(path) != content}
        self.seen.update(more)
        if more:
            self.on_more(more)

    def _await(self, name: str, folders: Sequence[str]) -> None:
        """Remember where a module was looked for, in the first local folder that could hold it."""
        for entry in folders:
            folder = _absolute(entry)
            if folder.is_dir() and self._is_local(folder):
                candidates = (folder / f"{name}.py", folder / name / "__init__.py")
                self.note({path: ABSENT for path in candidates if path not in self.seen})
                return

    def _is_local(self, path: Path) -> bool:
        real = path.resolve()
        return not any(real.is_relative_to(folder) for folder in self._foreign)

    def snapshot(self) -> Snapshot:
        """What was seen so far, with what other ways of importing left in `sys.modules`."""
        for name, module in list(sys.modules.items()):
            file = None if name in self._there_before else getattr(module, "__file__", None)
            if isinstance(file, str) and (path := _absolute(file)) not in self.seen and self._is_local(path):
                self.seen[path] = digest_file(path)
        return dict(self.seen)


class FreshLoader(SourceFileLoader):
    """Loads from the source, never from what an earlier process compiled."""

    def __init__(self, name: str, path: str, witness: ImportWitness) -> None:
        super().__init__(name, path)
        self._witness: ImportWitness | None = witness

    def path_stats(self, path: str) -> NoReturn:
        """Without a date there is no bytecode to trust, and none is written."""
        raise OSError("cached bytecode is not looked at")

    def get_data(self, path: str) -> bytes:
        """Only the first read is of what runs; a traceback reads the file again when it is printed."""
        content = super().get_data(path)
        if path == self.path and self._witness is not None:
            witness, self._witness = self._witness, None
            witness.note({_absolute(path): digest(content)})
        return content


def _absolute(entry: str) -> Path:
    return Path(entry or ".").absolute()


def _foreign_folders() -> Iterator[Path]:
    """Where Python and what is installed lie, and this package."""
    paths = sysconfig.get_paths()
    for kind in ("stdlib", "platstdlib", "purelib", "platlib"):
        yield Path(paths[kind]).resolve()
    for entry in sys.path:
        if {"site-packages", "dist-packages"} & set(Path(entry).parts):
            yield Path(entry).resolve()
    yield PACKAGE.resolve()
