"""All mistakes at once, each once, in file order; and one clear error for those who want a topology."""

from __future__ import annotations

from pathlib import Path

import pytest

from leanmq_topology import InvalidTopologyError, Topology
from leanmq_topology.topology.loading import check_topology, load_topology
from tests.unit.topology.drafts import HEADER, check


def test_mistakes_of_every_kind_are_reported_together_in_file_order(tmp_path: Path):
    text = """\
leanmq: 1
name: Shop
messages:
  placed: {schema: {type: objct}}
  paid: {schema: {type: object, required: [id]}, examples: [{}]}
queues:
  a: {ttl: 10 minutes, max_delivries: 3}
  b: {accepts: [payed], retry: {delay: 10m, max_delay: ${UNSET}}}
  b: {}
routes:
  r: {type: fanout, to: {d: {}}}
moved: {queues.old: queues.a}
"""
    found = [item for item in check(tmp_path, text.replace("${UNSET}", '"${UNSET}"')) if item.is_error]

    assert [(item.code, item.span and item.span.line) for item in found] == [
        ("LMQ301", 2),
        ("LMQ221", 4),
        ("LMQ421", 5),
        ("LMQ402", 7),
        ("LMQ203", 7),
        ("LMQ304", 8),
        ("LMQ114", 8),
        ("LMQ107", 9),
        ("LMQ305", 11),
        ("LMQ401", 12),
    ]


def test_loading_raises_one_error_that_holds_them_all(tmp_path: Path):
    path = tmp_path / "topology.yaml"
    path.write_text(HEADER + "queues: {A: {}, b: {ttl: 0s}}")

    with pytest.raises(InvalidTopologyError) as caught:
        load_topology([path], environ={})

    assert [item.code for item in caught.value.diagnostics if item.is_error] == ["LMQ301", "LMQ404"]
    assert "and 1 more" in str(caught.value)


def test_a_topology_is_loaded_by_its_class(tmp_path: Path):
    path = tmp_path / "topology.yaml"
    path.write_text(HEADER + "queues: {b: {}}")

    assert list(Topology.load(path, environ={}).queues) == ["b"]
    assert list(Topology.load(str(path), environ={}).target_names()) == ["b"]


def test_the_process_environment_fills_variables_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEANMQ_TEST_DELAY", "7s")
    path = tmp_path / "topology.yaml"
    path.write_text(HEADER + "queues:\n  b:\n    delay: ${LEANMQ_TEST_DELAY}\n")

    assert load_topology([path]).queues["b"].delay_ms == 7000


def test_an_overlay_is_laid_over_the_first_file(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(HEADER + "queues: {a: {max_deliveries: 2, ttl: 1d}}")
    (tmp_path / "prod.yaml").write_text("leanmq: 1\nname: shop\nqueues: {a: {max_deliveries: 9}}")

    queue = load_topology([tmp_path / "base.yaml", tmp_path / "prod.yaml"], environ={}).queues["a"]

    assert (queue.max_deliveries, queue.ttl_ms) == (9, 86_400_000)


def test_a_mistake_in_an_overlay_is_shown_in_the_overlay(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(HEADER + "queues: {a: {delay: 2h}}")
    (tmp_path / "prod.yaml").write_text("queues: {a: {ttl: 1h}}")

    found = check_topology([tmp_path / "base.yaml", tmp_path / "prod.yaml"], environ={})[1]

    (error,) = [item for item in found if item.is_error]
    assert (error.code, error.span and Path(error.span.file).name) == ("LMQ406", "base.yaml")


def test_warnings_alone_leave_the_topology_whole(tmp_path: Path):
    path = tmp_path / "topology.yaml"
    path.write_text(HEADER + "queues: {b: {}}")

    topology, found = check_topology([path], environ={})

    assert topology is not None
    assert [item.code for item in found] == ["LMQ414"]


def test_no_file_is_one_clear_finding(tmp_path: Path):
    topology, found = check_topology([tmp_path / "nope.yaml"], environ={})

    assert topology is None
    assert [item.code for item in found] == ["LMQ101"]


def test_a_handler_module_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "explosive.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    text = "queues: {a: {}}\nhandlers: {h: {queue: a, call: 'explosive:run'}}"

    assert not any(item.is_error for item in check(tmp_path, HEADER + text))


def test_many_misspelt_names_do_not_take_for_ever(tmp_path: Path):
    # Each suggestion looks through all names: with one for each of these the test would take minutes.
    queues = "".join(f"  q{number}: {{accepts: [typo{number}]}}\n" for number in range(3000))
    messages = "".join(f"  type{number}: {{schema: {{type: object}}}}\n" for number in range(3000))

    found = check(tmp_path, f"{HEADER}messages:\n{messages}queues:\n{queues}")

    assert sum(item.code == "LMQ304" for item in found) == 3000


@pytest.mark.parametrize("url", ["redis://u:s3cret@cache", "redis://cache?password=s3cret"])
def test_a_topology_that_is_logged_does_not_show_the_password_of_its_server(tmp_path: Path, url: str):
    file = tmp_path / "topology.yaml"
    file.write_text("leanmq: 1\nname: shop\nbroker: {url: '${URL}'}\nqueues: {a: {ttl: 1d}}\n")
    loaded = Topology.load(file, environ={"URL": url})
    assert loaded.broker.url == url
    assert url.replace("s3cret", "***") in repr(loaded)
