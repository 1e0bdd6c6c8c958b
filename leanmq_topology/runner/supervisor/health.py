"""Whether a supervisor and its workers do what they should, from what it knows without asking anybody."""

from __future__ import annotations

from collections.abc import Iterator

from leanmq_topology.runner.supervisor.members import Process, Role, State
from leanmq_topology.runner.supervisor.supervisor import Supervisor

STUCK_SECONDS = 60.0
"""An event loop that stands still for so long will hardly go on; a handler that only computes takes less."""


def list_workers(supervisor: Supervisor) -> list[Process]:
    """Those of the generation that serves, by seat."""
    current = supervisor.current
    return [current.members[seat] for seat in sorted(current.members)] if current else []


def find_stuck(supervisor: Supervisor) -> list[str]:
    """Why somebody should start all this anew; empty while it lives."""
    return [
        f"the event loop of worker {worker.name} stands still for {worker.loop_age_seconds:.0f} s"
        for worker in list_workers(supervisor)
        if worker.state is State.SERVING and worker.loop_age_seconds > STUCK_SECONDS
    ]


def find_unready(supervisor: Supervisor) -> list[str]:
    """Why no work should be expected of it right now; empty while it serves."""
    if supervisor.stopping:
        return ["it drains"]
    if supervisor.current is None:
        return ["it starts"]
    return [*find_stuck(supervisor), *_find_problems(supervisor)]


def _find_problems(supervisor: Supervisor) -> Iterator[str]:
    serving = [worker for worker in list_workers(supervisor) if worker.state is State.SERVING]
    seats = supervisor.current.seats if supervisor.current else 0
    if len(serving) < seats:
        yield f"{len(serving)} of {seats} workers serve"
    found = {problem for worker in serving if worker.facts for problem in worker.facts.problems}
    yield from sorted(found)


def describe(supervisor: Supervisor) -> dict[str, object]:
    """What `/readyz` answers."""
    current, reloaded = supervisor.current, supervisor.reloaded
    problems = find_unready(supervisor)
    return {
        "ready": not problems,
        "problems": problems,
        "generation": current.number if current else None,
        "reload": {"generation": reloaded.generation, "refused": reloaded.refused or None}
        if reloaded
        else None,
        "restarts": supervisor.restarts,
        "workers": [
            _describe_worker(process)
            for process in supervisor.processes.values()
            if process.role in {Role.WORKER, Role.SOLO}
        ],
    }


def _describe_worker(process: Process) -> dict[str, object]:
    return {
        "name": process.name or None,
        "pid": process.pid,
        "role": process.role.value,
        "generation": process.generation,
        "state": process.state.value,
        "loop_age_seconds": round(process.loop_age_seconds, 1),
    }
