"""Topology files to a checked topology: read, shape, schemas, values, rules, support; every mistake at once.

A later step is silent about a place an earlier one has already complained about: it could only repeat it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from leanmq_topology.diagnostics import Diagnostic, sort_diagnostics
from leanmq_topology.document.content import format_address
from leanmq_topology.document.json_schema import check_shape
from leanmq_topology.document.loading import read_document
from leanmq_topology.document.reader import Document
from leanmq_topology.errors import InvalidTopologyError
from leanmq_topology.garbage import paused_collection
from leanmq_topology.settings import read_environ
from leanmq_topology.topology.builder import build_topology
from leanmq_topology.topology.draft import Draft
from leanmq_topology.topology.masking import mask_findings
from leanmq_topology.topology.message_schemas import read_message_schemas
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.rules import check_rules
from leanmq_topology.topology.support import check_support

_WRONG_FORMAT = "LMQ202"


class Checked(Struct, frozen=True):
    """What came of checking. `topology` is None if anything was wrong; warnings alone leave it whole."""

    document: Document | None
    topology: Topology | None
    found: tuple[Diagnostic, ...]


def load_topology(
    paths: Sequence[str | Path],
    *,
    environment: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Topology:
    """Read and check topology files; raises `InvalidTopologyError` with every mistake, in file order."""
    topology, found = check_topology(paths, environment=environment, environ=environ)
    if topology is None:
        raise InvalidTopologyError(found)
    return topology


def check_topology(
    paths: Sequence[str | Path],
    *,
    environment: str | None = None,
    environ: Mapping[str, str] | None = None,
    strict: bool = False,
) -> tuple[Topology | None, list[Diagnostic]]:
    """The topology, or None if it has errors, and every error and warning, in file order.

    `strict` adds warnings about what is allowed but seldom wise. Nothing is imported, and no server is asked.
    """
    checked = check_files(paths, environment=environment, environ=environ, strict=strict)
    return checked.topology, list(checked.found)


def check_files(
    paths: Sequence[str | Path],
    *,
    environment: str | None = None,
    environ: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Checked:
    """As `check_topology`, with the document, for those who want to show where a value was written."""
    variables = read_environ() if environ is None else environ
    document, found = read_document(paths, environ=variables, environment=environment)
    if document is None:
        return Checked(None, None, tuple(sort_diagnostics(found)))
    with paused_collection():
        topology, more = check_document(document, strict=strict)
    found = sort_diagnostics([*found, *more])
    is_wrong = topology is None or any(item.is_error for item in found)
    shown = mask_findings(found, topology.broker.url if topology else None)
    return Checked(document, None if is_wrong else topology, tuple(shown))


def check_document(document: Document, *, strict: bool = False) -> tuple[Topology | None, list[Diagnostic]]:
    """Everything wrong with a document that could be read, and the topology as far as it could be built."""
    shape = check_shape(document)
    if any(item.code == _WRONG_FORMAT for item in shape):
        # Another version of the language: whatever else was said would be a guess.
        return None, shape
    messages = read_message_schemas(document)
    topology, values = build_topology(document, messages.schemas, files=messages.files)
    found = [*shape, *messages.found, *_without_repeats(values, shape)]
    draft = Draft(document, topology, messages.contracts, _broken(document, found), strict)
    found += _without_repeats(check_rules(draft), found)
    found += check_support(document)
    return topology, found


def _broken(document: Document, found: Iterable[Diagnostic]) -> frozenset[str]:
    """Addresses of what could not be used; a wrong item of a list makes the whole list unusable."""
    addresses = {format_address(path) for path in document.broken}
    addresses |= {item.address for item in found if item.is_error}
    return frozenset(addresses | {address.partition("[")[0] for address in addresses})


def _without_repeats(later: Iterable[Diagnostic], earlier: Iterable[Diagnostic]) -> list[Diagnostic]:
    """What a later step found where the earlier ones had no error."""
    known = {item.address for item in earlier if item.is_error and item.address}
    return [item for item in later if item.address not in known] if known else list(later)
