"""What a topology's durability comes to on the server at hand."""

from __future__ import annotations

from leanmq_topology.brokers.examination import Examination, Verdict
from leanmq_topology.plan.assurance import describe_assurance
from leanmq_topology.topology.durability import MEMORY, Durability, declared_levels
from leanmq_topology.topology.model import Topology


def assure(topology: Topology, examination: Examination) -> list[str]:
    """For a plan: what each level covers, which the server could give, and what stands in the way."""
    levels = declared_levels(topology)
    obstacles = {level: _find_obstacle(level, examination) for level in levels if level != MEMORY}
    found = {level: obstacle for level, obstacle in obstacles.items() if obstacle is not None}
    return describe_assurance(levels, offers=examination.offers, obstacles=found)


def _find_obstacle(level: Durability, examination: Examination) -> str | None:
    finding = examination.judge(level)
    if finding.verdict is not Verdict.FAILED:
        return None
    return f"{finding.text} ({finding.mend})" if finding.mend else finding.text
