"""What a supervisor and its workers did, as text for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from leanmq_topology.runner.supervisor.members import Process, Role, State
from leanmq_topology.runner.supervisor.supervisor import Supervisor

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES: Mapping[str, str] = {
    "handled": "ack",
    "retried": "retry",
    "dead-lettered": "dead_letter",
    "discarded": "drop",
    "released": "release",
}
"""Our counters, by the names they have as a label."""

Sample = tuple[Mapping[str, str], float]


def render_metrics(supervisor: Supervisor, version: str) -> str:
    """Every metric with its help; counters go on over the deaths of processes."""
    workers = [
        process for process in supervisor.processes.values() if process.role in {Role.WORKER, Role.SOLO}
    ]
    total, now = sum_up(supervisor.past, workers)
    states = Counter(process.state for process in workers)
    lags = [process.facts.lag_seconds for process in workers if process.facts]
    ages = [process.loop_age_seconds for process in workers if process.state is State.SERVING]
    current = supervisor.current
    lines = [
        *_metric("build_info", "gauge", "Which version runs.", [({"version": version}, 1)]),
        *_metric(
            "messages_processed_total",
            "counter",
            "Outcomes of messages, by handler.",
            [
                ({"handler": handler, "outcome": label}, counts[name])
                for handler, counts in sorted(total.items())
                for name, label in OUTCOMES.items()
            ],
        ),
        *_metric("worker_inflight_messages", "gauge", "Messages whose handler runs.", _each(now, "running")),
        *_metric("worker_held_messages", "gauge", "Messages read and not settled.", _each(now, "held")),
        *_metric(
            "workers",
            "gauge",
            "Worker processes, by state.",
            [({"state": state.value}, states[state]) for state in State],
        ),
        *_metric("generation", "gauge", "The one that serves.", [({}, current.number if current else 0)]),
        *_metric(
            "worker_restarts_total", "counter", "Worker processes replaced.", [({}, supervisor.restarts)]
        ),
        *_metric(
            "worker_deaths_total", "counter", "Worker processes that died.", [({}, supervisor.result.deaths)]
        ),
        *_metric(
            "reloads_total",
            "counter",
            "Edits taken up, by result.",
            [({"result": result}, supervisor.reloads[result]) for result in ("served", "refused")],
        ),
        *_metric(
            "loop_lag_seconds", "gauge", "How late an event loop was at worst.", [({}, max(lags, default=0))]
        ),
        *_metric(
            "loop_age_seconds",
            "gauge",
            "Since an event loop last turned, at worst.",
            [({}, round(max(ages, default=0), 3))],
        ),
    ]
    return "\n".join(lines) + "\n"


def sum_up(
    past: Mapping[str, Counter[str]], workers: Iterable[Process]
) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """By handler: what was ever counted, and what is counted of the processes that live."""
    total = {handler: Counter(counts) for handler, counts in past.items()}
    now: dict[str, Counter[str]] = {handler: Counter() for handler in past}
    for process in workers:
        for handler, counts in process.facts.handlers.items() if process.facts else ():
            total.setdefault(handler, Counter()).update(counts)
            now.setdefault(handler, Counter()).update(counts)
    return total, now


def _each(counts: Mapping[str, Counter[str]], name: str) -> list[Sample]:
    return [({"handler": handler}, found[name]) for handler, found in sorted(counts.items())]


def _metric(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP leanmq_{name} {help_text}"
    yield f"# TYPE leanmq_{name} {kind}"
    for labels, value in samples:
        inner = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        yield f"leanmq_{name}{{{inner}}} {value}" if inner else f"leanmq_{name} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
