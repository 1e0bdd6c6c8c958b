"""What a look at a server found: is it fit for messages, and how safe can it keep them?

Findings are for people, and each says what mends it. What a sender insists on before it starts is a small
part of them; `leanmq doctor` shows them all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct

from leanmq_topology.errors import BrokerRefusedError
from leanmq_topology.topology.durability import MEMORY, Durability

_log = logging.getLogger("leanmq_topology.brokers")


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(Struct, frozen=True):
    """One check and how it came out."""

    check: str
    """What was looked at, in a word: `eviction`, `durability disk`."""
    verdict: Verdict
    text: str
    """What was found and what it means, in a sentence."""
    mend: str | None = None
    """The command that mends it, or what to do; None where nothing needs mending."""


class Examination(Protocol):
    """A server as it was when it was looked at."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was seen, for display: product, version, memory, persistence, replicas."""
        ...

    @property
    def waits_for_disk(self) -> bool:
        """It can be asked to answer once its disk has a message; else it may write before each answer."""
        ...

    @property
    def shows_disk_writes(self) -> bool:
        """Its word that the disk has a message is good only while it writes before each answer.

        So each confirmed send asks how it writes, too.
        """
        ...

    @property
    def offers(self) -> tuple[Durability, ...]:
        """Levels above `memory` that the server gives as it is set up now, the simplest first."""
        ...

    def judge(self, level: Durability) -> Finding:
        """Whether sends can be confirmed at this level."""
        ...

    def check_entry(self) -> list[Finding]:
        """What every sender and worker insists on, whatever the level."""
        ...

    def check_server(self) -> list[Finding]:
        """Everything that does not depend on a level."""
        ...


def insist(examination: Examination, levels: Iterable[Durability], *, where: str) -> None:
    """Go on only with a server that keeps messages, at each of these levels.

    Raises `BrokerRefusedError` that names everything at fault; what is only doubtful is logged once.
    """
    judged = [examination.judge(level) for level in dict.fromkeys(levels) if level != MEMORY]
    findings = [*examination.check_entry(), *judged]
    for finding in findings:
        if finding.verdict is Verdict.WARNING:
            _log.warning("%s: %s%s", where, finding.text, f" ({finding.mend})" if finding.mend else "")
    failed = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    if failed:
        raise refuse(failed, where=where)


def refuse(failed: list[Finding], *, where: str) -> BrokerRefusedError:
    """The error for a server that will not do."""
    mends = [finding.mend for finding in failed if finding.mend]
    return BrokerRefusedError(
        f"{where}: {'; '.join(finding.text for finding in failed)}", hint="; ".join(mends) or None
    )
