"""No room on a disk, no right to write to it, no memory: of a worker, and of the embedded broker."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from leanmq_topology.brokers.embedded.address import EmbeddedAddress
from leanmq_topology.brokers.embedded.launcher import Hold, hold, look, stop
from leanmq_topology.errors import BrokerUnavailableError
from tests.faults.catalogue import Figures
from tests.support.commands import leanmq, read_answer
from tests.support.processes import wait_until_gone
from tests.support.project import PATIENCE_SECONDS, Project, Run, leanmq_command, write_orders
from tests.support.promises import require_program
from tests.support.servers import Server

QUEUE = "visibility_timeout: 2s, max_deliveries: 6, retry: {delay: 50ms, jitter: none}"
HANDLER = 'queue: orders, call: "orders:take", concurrency: 1, prefetch: 16'

HANDLERS = r"""
import resource
from pathlib import Path

hoard = []

def take(data, message):
    if data.get("do") == "hoard":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26,) * 2)
        for size in (2**22, 2**16, 2**10, 2**6):
            try:
                while True:
                    hoard.append(bytearray(size))
            except MemoryError:
                pass  # and what it took stays taken
        hoard.append(bytearray(2**22))
    if data.get("do") == "print":
        print("printed", data["n"])
    with Path("done").open("ab", buffering=0) as told:
        told.write(b"%d %d\n" % (data["n"], message.attempt))
"""

AT_ONCE = EmbeddedAddress(linger_ms=0)
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
needs_prlimit = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason=f"{sys.platform} does not limit another process's files"
)


@pytest.fixture
def project(valkey: Server, namespace: str, tmp_path: Path) -> Project:
    queues, handlers = {"orders": QUEUE}, {"take": HANDLER}
    built = write_orders(tmp_path, valkey.url, namespace, HANDLERS, queues=queues, handlers=handlers)
    built.here("apply")
    return built


# -- a worker --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
@pytest.mark.parametrize("written", ["text", "json"])
def test_a_worker_whose_output_has_no_room_runs_its_messages_and_ends_in_order(
    project: Project, figures: Figures, written: str
):
    """What its handlers print fails in them, as it would in any program; what it logs itself is let go."""
    with Path("/dev/full").open("wb") as full:
        worker = subprocess.Popen(
            leanmq_command("run", "--log-format", written),
            cwd=project.folder, env=project.environ, stdin=subprocess.DEVNULL, stdout=full, stderr=full,
        )  # fmt: skip
    try:
        project.send_many("", "", "print", "")
        state = project.until(lambda queue: queue["acked"] + queue["dead"] == 4)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == 0
    finally:
        worker.kill()
        worker.wait()
    figures.report("F66", without="room for its output", sent=4, lost=0, dead=state["dead"])
    [letter] = json.loads(project.leanmq("dlq", "list", "-o", "json").stdout)["messages"]
    assert (letter["data"]["n"], letter["reason"], letter["error"]["type"]) == (2, "failed", "OSError")


def test_a_worker_without_memory_loses_nothing(project: Project, figures: Figures):
    worker = Run(project)
    try:
        worker.line("ready")
        project.send_many("hoard", "", "", "")
        state = project.until(lambda queue: queue["acked"] + queue["dead"] == 4)
    finally:
        worker.close()
        print("\n".join(worker.rest()))
    figures.report("F66", without="memory", sent=4, lost=0, dead=state["dead"])
    assert (state["ready"], state["in_flight"], state["delayed"]) == (0, 0, 0)
    letters = json.loads(project.leanmq("dlq", "list", "-o", "json").stdout)["messages"]
    assert [letter["data"]["n"] for letter in letters] == [0], "nobody but the one that took it all"
    assert letters[0]["reason"] == "crashed" or letters[0]["error"]["type"] == "MemoryError"
    done = [int(line.split()[0]) for line in (project.folder / "done").read_text().splitlines()]
    assert sorted(set(done)) == [1, 2, 3]


# -- the embedded broker ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop(tmp_path, force=True)


def fill_disk(held: Hold) -> Redis:
    """From here on nothing is written; what is acknowledged before the server notices stays in memory."""
    log = next(Path(held.facts.data).glob("appendonlydir/*.incr.aof"))
    resource.prlimit(held.facts.server_pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 64, UNLIMITED[1]))
    client = Redis(unix_socket_path=held.facts.socket)
    assert client.set("acknowledged", "x" * 1000)
    return client


@needs_prlimit
def test_an_embedded_broker_whose_disk_is_full_stays_until_all_it_acknowledged_is_written(
    folder: Path, figures: Figures
):
    with hold(folder, AT_ONCE) as held, fill_disk(held):
        pass
    facts = look(folder)
    assert facts is not None
    assert (facts.unwritten, facts.ending) == (True, False), "its last user is gone, and it stays"
    refused = stop(folder)
    assert refused is not None
    assert (refused.unwritten, refused.ending) == (True, False)
    told = read_answer(leanmq("server", "status", "-o", "json", folder=folder))
    assert (told["unwritten"], told["running"]) == (True, True)
    resource.prlimit(facts.server_pid, resource.RLIMIT_FSIZE, UNLIMITED)
    wait_until_gone(facts.keeper_pid, facts.server_pid)
    with hold(folder, AT_ONCE) as held, Redis(unix_socket_path=held.facts.socket) as client:
        assert client.get("acknowledged") == b"x" * 1000
    figures.report("F66", without="room on the embedded broker's disk", lost=0)


@needs_prlimit
def test_an_embedded_broker_whose_disk_is_full_can_be_ended_by_force(folder: Path):
    with hold(folder, AT_ONCE) as held, fill_disk(held):
        pass
    facts = stop(folder, force=True)
    assert facts is not None
    assert facts.ending
    wait_until_gone(facts.keeper_pid, facts.server_pid)


def test_an_embedded_broker_on_a_disk_that_may_only_be_read_is_one_clear_error(tmp_path: Path):
    mount = require_program("mount", what_for="a disk that may only be read")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("nobody here may mount a disk")
    try:
        with pytest.raises(BrokerUnavailableError, match="read-only file system") as refused:
            hold(disk)
        assert "LEANMQ_URL" in (refused.value.hint or "")
    finally:
        subprocess.run(["umount", disk], check=True)
