"""What probes and metrics answer, from what a supervisor knows."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from leanmq_topology.errors import SettingError
from leanmq_topology.runner.marks import Board
from leanmq_topology.runner.supervisor import health
from leanmq_topology.runner.supervisor.members import Generation, Process, Role, State
from leanmq_topology.runner.supervisor.probes import Probes, listen
from leanmq_topology.runner.supervisor.process import Downward
from leanmq_topology.runner.supervisor.supervisor import Supervisor
from leanmq_topology.runner.supervisor.wire import Facts, Ready, Reloaded

NOTHING = {"handled": 0, "retried": 0, "dead-lettered": 0, "discarded": 0, "released": 0}


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor(lambda birth: lambda upward: 0, lambda dead: None)
    with made.turns:
        yield made
    for process in made.processes.values():
        process.line.close()


@pytest.fixture
def probes(supervisor: Supervisor) -> Iterator[Probes]:
    with listen("127.0.0.1", 0) as listening:
        yield Probes(supervisor, listening, "1.2.3")


def add_worker(supervisor: Supervisor, seat: int = 0, **known: object) -> Process:
    """A process that is only known of; nothing is forked."""
    ours, theirs = socket.socketpair()
    theirs.close()
    worker = Process(1000 + seat, Downward(ours), Role.WORKER, 1, seat, Board())
    worker.state = State.SERVING
    worker.ready = Ready(f"w{seat}", "redis://x", "shop", "/", ("billing",), ("charge",))
    worker.board.beat()
    for name, value in known.items():
        setattr(worker, name, value)
    supervisor.processes[worker.pid] = worker
    supervisor.current = supervisor.current or Generation(1)
    supervisor.current.members[seat] = worker
    supervisor.current.seats = len(supervisor.current.members)
    return worker


def ask(probes: Probes, path: str) -> tuple[int, str]:
    status, _, body = probes.answer("GET", path)
    return status, body


def test_what_starts_is_alive_and_not_ready(probes: Probes):
    assert ask(probes, "/livez") == (200, "live\n")
    status, body = ask(probes, "/readyz")
    assert (status, json.loads(body)["problems"]) == (503, ["it starts"])


def test_workers_that_serve_are_ready_until_they_are_told_to_drain(probes: Probes, supervisor: Supervisor):
    add_worker(supervisor)
    status, body = ask(probes, "/readyz")
    assert (status, json.loads(body)["generation"]) == (200, 1)
    assert json.loads(body)["workers"][0]["state"] == "serving"
    supervisor.stopping = True
    assert ask(probes, "/readyz")[0] == 503
    assert ask(probes, "/livez")[0] == 200


def test_a_worker_whose_place_is_empty_or_whose_server_is_gone_is_not_ready(
    probes: Probes, supervisor: Supervisor
):
    add_worker(supervisor)
    second = add_worker(supervisor, 1, state=State.STARTING)
    assert "1 of 2 workers serve" in ask(probes, "/readyz")[1]
    second.state = State.SERVING
    second.facts = Facts({}, problems=("the server cannot be reached",))
    status, body = ask(probes, "/readyz")
    assert (status, json.loads(body)["problems"]) == (503, ["the server cannot be reached"])
    assert ask(probes, "/livez")[0] == 200


def test_an_event_loop_that_stands_still_too_long_is_neither_alive_nor_ready(
    probes: Probes, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
):
    add_worker(supervisor)
    monkeypatch.setattr(health, "STUCK_SECONDS", -1.0)
    status, body = ask(probes, "/livez")
    assert status == 503
    assert "worker w0 stands still" in body
    assert ask(probes, "/readyz")[0] == 503


def test_the_result_of_the_newest_edit_is_told(probes: Probes, supervisor: Supervisor):
    add_worker(supervisor)
    supervisor.note_reloaded(Reloaded(2, "orders.py:1: no such module"))
    status, body = ask(probes, "/readyz")
    assert status == 200  # what served before goes on
    assert json.loads(body)["reload"] == {"generation": 2, "refused": "orders.py:1: no such module"}
    assert 'leanmq_reloads_total{result="refused"} 1' in ask(probes, "/metrics")[1]


def test_counters_go_on_over_the_end_of_a_process(probes: Probes, supervisor: Supervisor):
    supervisor.past = {"charge": Counter({**NOTHING, "handled": 2_000_000})}
    add_worker(supervisor, facts=Facts({"charge": {**NOTHING, "handled": 1, "held": 3, "running": 2}}))
    text = ask(probes, "/metrics")[1]
    assert 'leanmq_messages_processed_total{handler="charge",outcome="ack"} 2000001\n' in text
    assert 'leanmq_worker_inflight_messages{handler="charge"} 2\n' in text
    assert 'leanmq_build_info{version="1.2.3"} 1\n' in text


def test_every_metric_is_well_formed(probes: Probes, supervisor: Supervisor):
    add_worker(supervisor, facts=Facts({'a"b': NOTHING}, lag_seconds=0.25))
    sample = re.compile(r'leanmq_[a-z_]+(\{([a-z]+="([^"\\]|\\.)*",?)+\})? [0-9.]+')
    for line in ask(probes, "/metrics")[1].splitlines():
        assert line.startswith(("# HELP leanmq_", "# TYPE leanmq_")) or sample.fullmatch(line), line


def test_a_probe_that_fails_is_an_answer_and_nothing_more(
    probes: Probes, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
):
    def fail(supervisor: Supervisor) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(health, "find_stuck", fail)
    probes.start()
    with socket.create_connection(probes.address, timeout=20) as asking:
        asking.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        while not probes.answered:
            supervisor.turns.turn()
        assert asking.recv(4096).startswith(b"HTTP/1.1 500 ")


def test_a_request_is_answered_however_it_comes_in(probes: Probes, supervisor: Supervisor):
    probes.start()
    with socket.create_connection(probes.address, timeout=20) as asking:
        for part in (b"GET /live", b"z HTTP/1.1\r\nHost: x\r\n", b"\r\n"):
            asking.sendall(part)
            supervisor.turns.turn()
        while not probes.answered:
            supervisor.turns.turn()
        answer = asking.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nlive\n")


def test_other_paths_and_methods_are_refused(probes: Probes):
    assert ask(probes, "/")[0] == 404
    assert probes.answer("POST", "/livez")[0] == 405


def test_a_port_that_is_taken_is_told():
    with listen("127.0.0.1", 0) as first, pytest.raises(SettingError, match="cannot listen"):
        listen("127.0.0.1", first.getsockname()[1])
