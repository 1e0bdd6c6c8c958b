"""What a generation was made of, told to its supervisor: whether it can serve or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.errors import InvalidTopologyError
from leanmq_topology.runner.reload.snapshot import Snapshot, WatchList, digest_file, take_snapshot
from leanmq_topology.runner.reload.witness import ImportWitness
from leanmq_topology.runner.supervisor.wire import Loaded, Message
from leanmq_topology.topology.model import Topology

Loading = TypeVar("Loading", bound="tuple[Topology, object]")
Tell = Callable[[Message], None]


def load_and_tell(load: Callable[[], Loading], known: WatchList, tell: Tell) -> Loading:
    """Load, and tell what was read for it, also when that fails; then raises what `load` raised.

    `known` is what the generations before were made of. After a failure all of it stays watched, and so do
    the folders that its files lie in: what is missing may come there. Modules that handlers import later are
    told as well.
    """
    before = take_snapshot(known)  # before anything is read, so that what changes from now on is noticed
    witness = ImportWitness()
    witness.start()
    try:
        loaded = load()
    except BaseException as failure:
        tell(_describe(_after_failure(failure, known, before, witness)))
        raise
    read = {path: before.get(path) or digest_file(path) for path in map(Path.absolute, loaded[0].files)}
    tell(_describe(read | dict(witness.snapshot())))
    witness.on_more = lambda more: tell(_describe(more))
    return loaded


def load_afresh(load: Callable[[], Loading]) -> Loading:
    """Load where nothing is watched; the user's modules from their source, as in `load_and_tell`."""
    ImportWitness().start()
    return load()


def _after_failure(
    failure: BaseException, known: WatchList, before: Snapshot, witness: ImportWitness
) -> Snapshot:
    found = failure.diagnostics if isinstance(failure, InvalidTopologyError) else ()
    complained = {path: digest_file(path) for path in _files_of(found) if path not in before}
    seen = {**complained, **before, **witness.snapshot()}
    around = frozenset(path.parent for path in seen if path not in known.folders)
    return seen | take_snapshot(WatchList(folders=around - seen.keys()))


def _files_of(found: Sequence[Diagnostic]) -> Iterable[Path]:
    return {Path(item.span.file).absolute() for item in found if item.span is not None}


def _describe(read: Snapshot) -> Loaded:
    folders = {path for path in read if path.is_dir()}
    return Loaded(
        files={str(path): content for path, content in read.items() if path not in folders},
        folders={str(path): read[path] for path in folders},
    )
