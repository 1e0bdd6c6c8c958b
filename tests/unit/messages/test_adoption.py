"""What a message of LeanMQ becomes: odd ones are carried over or set aside, and none of them raises."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from leanmq_topology.client.timestamps import format_time
from leanmq_topology.messages.adoption import HEADER_HISTORY, Move, read_old_message
from leanmq_topology.messages.codec import encode_failure, encode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.message import HEADER_TIME
from leanmq_topology.messages.outcome import DeadReason

STORED_S = 1_700_000_000
ENTRY = f"{STORED_S}000-0"
HALF = "\ud800"
"""A lone surrogate: JSON can hold it, UTF-8 cannot."""


def read(raw: str, *, dead: bool = False, entry_id: str = ENTRY) -> Move:
    """Read it, and write it as the broker would: an odd message must not stop that either."""
    move = read_old_message(entry_id, (b"data", raw.encode()), dead=dead, format_time=format_time)
    encode_failure(move.failure)
    if move.envelope is not None:
        encode_fields(move.envelope)
    return move


def keep(raw: str, *, entry_id: str = ENTRY) -> Envelope:
    envelope = read(raw, entry_id=entry_id).envelope
    assert envelope is not None
    return envelope


def write(**told: Any) -> str:
    return json.dumps({"n": 1, "_metadata": {"id": "m", "timestamp": STORED_S + 1, "ttl": None} | told})


def test_what_belonged_to_leanmq_is_no_part_of_the_data():
    envelope = keep(write(ttl=60))
    assert (envelope.id, envelope.data) == ("m", b'{"n":1}')
    assert envelope.headers == {HEADER_TIME: "2023-11-14T22:13:21.000Z"}
    assert envelope.expires_ms == (STORED_S + 61) * 1000


@pytest.mark.parametrize("seconds", ["Infinity", "1e400", "NaN", "1e300", "1" + 400 * "0", "true", '"soon"'])
def test_a_lifetime_without_end_never_ends(seconds: str):
    envelope = keep(f'{{"n": 1, "_metadata": {{"id": "m", "timestamp": 1, "ttl": {seconds}}}}}')
    assert (envelope.data, envelope.expires_ms) == (b'{"n":1}', None)


@pytest.mark.parametrize("seconds", ["Infinity", "-Infinity", "1e400", "NaN", "1e15", "-5", "0", "null"])
def test_a_time_that_no_calendar_has_gives_way_to_that_of_the_entry(seconds: str):
    envelope = keep(f'{{"_metadata": {{"id": "m", "timestamp": {seconds}, "ttl": 1}}}}')
    assert envelope.headers[HEADER_TIME] == "2023-11-14T22:13:20.000Z"
    assert envelope.expires_ms == (STORED_S + 1) * 1000


def test_an_entry_id_beyond_the_calendar_is_read_too():
    assert keep("{}", entry_id=f"{2**64 - 1}-0").headers[HEADER_TIME] == "9999-12-31T23:59:59.999Z"


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("[" * sys.getrecursionlimit() * 2, "nested too deep"),
        (f'{{"a": {"[" * 100}1{"]" * 100}}}', "nested too deep"),
        (write(id=HALF), "surrogates not allowed"),
        (json.dumps({HALF: 1}), "lone surrogate"),
        (f'{{"n": {"1" * 5000}}}', "limit"),
        ("no json", "Expecting value"),
        ("null", "no JSON object"),
    ],
    ids=["deep-json", "deep-data", "id", "key", "integer", "text", "null"],
)
def test_what_cannot_be_carried_over_is_set_aside_with_the_reason(raw: str, why: str, dead: bool):
    move = read(raw, dead=dead)
    assert (move.envelope, move.reason) == (None, DeadReason.UNDECODABLE)
    assert why in move.failure.message


@pytest.mark.parametrize("dead", [False, True])
def test_half_a_character_in_the_reason_of_a_failure_becomes_a_question_mark(dead: bool):
    failures = [{"timestamp": 1.5, "reason": f"bad{HALF}"}, {"timestamp": 2.5, "reason": f"worse{HALF}"}]
    move = read(json.dumps({"n": 1, "_failures": failures}), dead=dead)
    assert move.envelope is not None
    assert move.failure.message == "worse?"
    history = json.loads(move.envelope.headers[HEADER_HISTORY])
    assert [failure["reason"] for failure in history] == (["bad?"] if dead else ["bad?", "worse?"])
