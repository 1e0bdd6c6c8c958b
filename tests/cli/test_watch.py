"""`leanmq run --watch`: what is told of an edit, and what goes on serving."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.processes import wait_until
from tests.support.project import PATIENCE_SECONDS, Project, Run, running
from tests.support.servers import Server

pytestmark = pytest.mark.timeout(300)

TOPOLOGY = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  order: {{schema: {{type: object, required: [n], properties: {{n: {{type: integer}}}}}}}}
queues:
  orders: {{accepts: [order], ttl: none}}
handlers:
  take: {{queue: orders, call: "orders:take"}}
"""
HANDLERS = "async def take(data):\n    print('first', data['n'], flush=True)\n"


@pytest.fixture
def project(valkey: Server, namespace: str, tmp_path: Path) -> Project:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY.format(namespace=namespace, url=valkey.url))
    (tmp_path / "orders.py").write_text(HANDLERS)
    return Project(tmp_path)


@pytest.fixture
def watch(project: Project) -> Iterator[Callable[..., Run]]:
    """On the applied project."""
    project.here("apply")
    with running(project, "--watch") as start:
        yield start


def edit(project: Project, old: str, new: str, *, file: str = "topology.yaml") -> None:
    text = (project.folder / file).read_text()
    assert old in text
    (project.folder / file).write_text(text.replace(old, new))


def until_only(project: Project, generation: int) -> None:
    """What is sent now goes to it: the one before, that was told to drain when this one served, is gone."""
    wait_until(
        lambda: [worker["generation"] for worker in project.status()["workers"]] == [generation],
        f"generation {generation} alone",
        seconds=PATIENCE_SECONDS,
    )


def test_saved_code_takes_over_from_the_code_before(project: Project, watch: Callable[..., Run]):
    run = watch()
    project.send(1)
    run.line("first 1")
    edit(project, "first", "second", file="orders.py")
    run.line("orders.py changed, loading")
    run.line("generation 2 serves")
    until_only(project, 2)
    project.send(2)
    run.line("second 2")
    run.signal(signal.SIGTERM)
    assert run.ended() == 0
    assert "stopped: 2 handled" in run.seen[-1]


def test_the_process_before_ends_and_the_one_that_serves_is_listed(
    project: Project, watch: Callable[..., Run]
):
    run = watch()
    [before] = project.status()["workers"]
    edit(project, "first", "second", file="orders.py")
    run.line("generation 2 serves")
    wait_until(lambda: not psutil.pid_exists(before["pid"]), "its end", seconds=PATIENCE_SECONDS)
    [after] = project.status()["workers"]
    assert after["pid"] != before["pid"]


def test_a_broken_edit_is_told_with_its_place_and_the_code_before_goes_on(
    project: Project, watch: Callable[..., Run]
):
    run = watch()
    (project.folder / "orders.py").write_text(HANDLERS + "def broken(:\n")
    run.line("generation 2 is refused, generation 1 keeps serving")
    run.line("orders.py:3:12: error LMQ314")
    project.send(1)
    run.line("first 1")
    (project.folder / "orders.py").write_text(HANDLERS.replace("first", "mended"))
    run.line("generation 3 serves")
    until_only(project, 3)
    project.send(2)
    run.line("mended 2")
    assert "Traceback" not in "\n".join(run.seen)


def test_what_came_of_an_edit_stands_in_the_status(project: Project, watch: Callable[..., Run]):
    def newest() -> dict[str, object] | None:
        workers = project.status()["workers"]  # for a moment there are two
        return workers[0]["reload"] if len(workers) == 1 else None

    run = watch()
    assert newest() is None
    (project.folder / "orders.py").write_text("import nowhere_to_be_found\n" + HANDLERS)
    run.line("is refused")
    wait_until(newest, "the heartbeat", seconds=PATIENCE_SECONDS)
    told = newest()
    assert told is not None
    assert (told["generation"], told["serves"]) == (2, False)
    assert str(told["refused"]).startswith("orders.py:1:1: LMQ314")
    assert "generation 2 was refused: orders.py:1:1" in project.leanmq("status").stdout
    (project.folder / "orders.py").write_text(HANDLERS.replace("first", "mended"))
    run.line("generation 3 serves")
    mended = {"generation": 3, "serves": True, "refused": None}
    wait_until(lambda: newest() == mended, "the next heartbeat", seconds=PATIENCE_SECONDS)


def test_a_save_without_a_change_starts_nothing(project: Project, watch: Callable[..., Run]):
    run = watch()
    (project.folder / "orders.py").write_text(HANDLERS)
    (project.folder / "orders.py").touch()
    (project.folder / "notes.txt").write_text("nothing that counts")
    edit(project, "first", "second", file="orders.py")
    run.line("generation 2 serves")
    assert sum("changed, loading" in line for line in run.seen) == 1


def test_a_module_that_handlers_import_is_watched_even_if_they_do_it_late(
    project: Project, watch: Callable[..., Run]
):
    (project.folder / "rates.py").write_text("RATE = 1\n")
    lazy = "async def take(data):\n    import rates\n    print('rate', rates.RATE, flush=True)\n"
    (project.folder / "orders.py").write_text(lazy)
    run = watch()
    project.send(1)
    run.line("rate 1")
    (project.folder / "rates.py").write_text("RATE = 2\n")
    run.line("rates.py changed, loading")
    run.line("generation 2 serves")
    until_only(project, 2)
    project.send(2)
    run.line("rate 2")


def test_a_module_that_is_missing_is_awaited(project: Project, watch: Callable[..., Run]):
    run = watch()
    (project.folder / "orders.py").write_text("import rates\n" + HANDLERS)
    run.line("is refused")
    (project.folder / "rates.py").write_text("RATE = 2\n")
    run.line("generation 3 serves")


def test_a_schema_file_and_an_included_file_are_watched(project: Project, watch: Callable[..., Run]):
    folder = project.folder
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    (folder / "order.schema.json").write_text(json.dumps(schema))
    (folder / "more.yaml").write_text("queues: {more: {accepts: [order], ttl: none}}\n")
    run = watch("--apply")
    text = (folder / "topology.yaml").read_text()
    inline = text[text.index("{schema: {type") : text.index("queues:")]
    edit(project, inline, "{schema: order.schema.json}\ninclude: [more.yaml]\n")
    run.line("applied queues.more")
    run.line("generation 2 serves")
    schema["properties"]["note"] = {"type": "string"}  # type: ignore[index]
    (folder / "order.schema.json").write_text(json.dumps(schema))
    run.line("order.schema.json changed, loading")
    run.line("applied messages.order")
    run.line("generation 3 serves")
    (folder / "more.yaml").write_text("queues: {more: {accepts: [order], ttl: 1d}}\n")
    run.line("more.yaml changed, loading")
    run.line("applied queues.more")


def test_an_edit_that_must_not_simply_be_applied_is_refused_and_told(
    project: Project, watch: Callable[..., Run]
):
    run = watch("--apply")
    edit(project, "required: [n]", "required: [n, price]")
    run.line("generation 2 is refused, generation 1 keeps serving")
    run.line("messages.order")
    project.send(1)
    run.line("first 1")
    assert project.status()["generation"] == 1


def test_without_apply_a_queue_that_is_not_applied_is_refused_and_the_way_out_told(
    project: Project, watch: Callable[..., Run]
):
    run = watch()
    edit(
        project,
        "handlers:",
        "  more: {accepts: [order], ttl: none}\nhandlers:\n  also: {queue: more, call: 'orders:take'}",
    )
    run.line("generation 2 is refused")
    run.line("leanmq apply")
    project.send(1)
    run.line("first 1")


def test_a_first_start_that_fails_ends_the_command(project: Project):
    project.leanmq("apply")
    (project.folder / "orders.py").write_text("import nowhere_to_be_found\n")
    done = project.leanmq("run", "--watch", expect=3)
    assert done.stderr.count("LMQ314") == 1
    assert "Traceback" not in done.stderr


def test_several_processes_are_exchanged_together(project: Project, watch: Callable[..., Run]):
    run = watch("--workers", "2", "--apply")
    wait_until(lambda: len(project.status()["workers"]) == 2, "both", seconds=PATIENCE_SECONDS)
    before = {worker["pid"] for worker in project.status()["workers"]}
    edit(project, "first", "second", file="orders.py")
    run.line("generation 2 serves")
    wait_until(
        lambda: (
            len(project.status()["workers"]) == 2
            and before.isdisjoint(worker["pid"] for worker in project.status()["workers"])
        ),
        "two others",
        seconds=PATIENCE_SECONDS,
    )
    assert sum("changed, loading" in line for line in run.seen) == 1


def test_nothing_is_left_of_it_even_if_it_is_killed(project: Project, watch: Callable[..., Run]):
    run = watch()
    parent = psutil.Process(run.process.pid)
    wait_until(lambda: len(parent.children()) >= 2, "the worker, and what watches the files")
    processes = parent.children(recursive=True)
    run.signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)
    assert not alive
