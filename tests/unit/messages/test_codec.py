"""Fields and back; what lacks those that each message has is not ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from leanmq_topology.messages.codec import (
    FIELDS,
    UndecodableError,
    decode_dead_letter,
    decode_each,
    decode_failure,
    decode_fields,
    encode_failure,
    encode_fields,
)
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import MAX_FAILURE_TEXT, DeadReason, Failure

text = some.text(alphabet=some.characters(exclude_categories=["Cs"]))
envelopes = some.builds(
    Envelope,
    id=text.filter(bool),
    type=text,
    data=some.binary(),
    headers=some.dictionaries(text, text),
    attempt=some.integers(0, 10**9),
    expires_ms=some.none() | some.integers(0, 2**53),
)


def flatten(values: list[bytes], *more: bytes) -> list[bytes]:
    return [word for pair in zip(FIELDS, values, strict=True) for word in pair] + list(more)


@given(envelopes)
def test_decoding_what_was_encoded_gives_the_same_envelope(envelope: Envelope):
    assert decode_fields(flatten(encode_fields(envelope))) == envelope


def test_all_six_fields_are_always_there_and_empty_if_absent():
    assert encode_fields(Envelope("m", "", b"{}")) == [b"m", b"", b"{}", b"", b"0", b""]


LONG = flatten(encode_fields(Envelope("m", "t", b"{}")))


@pytest.mark.parametrize(
    ("flat", "attempt", "expires_ms"),
    [
        (LONG, 0, None),
        (LONG[:10], 0, None),
        (LONG[:8], 0, None),
        ([*LONG[:8], b"attempt", b"", b"expires", b""], 0, None),
        ([*LONG[:8], b"attempt", b"3"], 3, None),
        ([*LONG[:8], b"expires", b"7"], 0, 7),
        ([*LONG[:8], b"expires", b"7", b"attempt", b"3"], 3, 7),
    ],
)
def test_attempt_and_expires_may_be_left_out_or_empty(
    flat: list[bytes], attempt: int, expires_ms: int | None
):
    expected = Envelope("m", "t", b"{}", {}, attempt, expires_ms)
    assert decode_fields(flat) == expected
    assert decode_each([flat, flat]) == [expected, expected]


def test_fields_may_come_in_any_order():
    flat = flatten(encode_fields(Envelope("m", "t", b"{}", {"a": "b"}, 2, 7)))
    pairs = [flat[at : at + 2] for at in range(0, 12, 2)]
    turned = [word for pair in reversed(pairs) for word in pair]
    assert decode_fields(turned) == Envelope("m", "t", b"{}", {"a": "b"}, 2, 7)


GOOD = [b"m", b"t", b"{}", b"", b"0", b""]
SHORT = flatten(GOOD)[:8]


@pytest.mark.parametrize(
    ("flat", "reason"),
    [
        ([], "has no id, type, data, headers$"),
        ([b"payload", b"x"], "has no id"),
        (flatten(GOOD)[:6] + flatten(GOOD)[8:], "has no headers"),
        (flatten([b"", *GOOD[1:]]), "id is empty"),
        (flatten([b"\xff", *GOOD[1:]]), "not UTF-8"),
        (flatten([b"m", b"\xff", *GOOD[2:]]), "not UTF-8"),
        (flatten([*GOOD[:3], b"[1]", b"0", b""]), "headers are not"),
        (flatten([*GOOD[:3], b'{"a":1}', b"0", b""]), "headers are not"),
        (flatten([*GOOD[:4], b"soon", b""]), "not a number"),
        (flatten([*GOOD[:5], b"never"]), "not a number"),
    ],
)
def test_an_entry_without_readable_fields_says_what_is_wrong(flat: list[bytes], reason: str):
    with pytest.raises(UndecodableError, match=reason):
        decode_fields(flat)


def decode_alone(flat: list[bytes]) -> Envelope | str:
    try:
        return decode_fields(flat)
    except UndecodableError as failure:
        return str(failure)


written = some.one_of(
    envelopes.map(encode_fields).map(flatten),
    some.tuples(*(some.sampled_from([good, b"", b"1", b"\xff", b'{"a":"b"}']) for good in GOOD)).map(
        lambda values: flatten(list(values))
    ),
    some.tuples(*(some.sampled_from([b"m", b"", b"\xff", b'{"a":"b"}']) for _ in range(4))).map(
        lambda values: [word for pair in zip(FIELDS, values, strict=False) for word in pair]
    ),
    some.sampled_from([b"7", b"", b"never"]).map(lambda expires: [*SHORT, b"expires", expires]),
    some.lists(some.sampled_from([*FIELDS, *GOOD]), max_size=14),
)


@given(some.lists(written, max_size=5))
def test_each_of_many_is_decoded_as_it_is_alone(entries: list[list[bytes]]):
    found = [str(one) if isinstance(one, UndecodableError) else one for one in decode_each(entries)]
    assert found == [decode_alone(flat) for flat in entries]


def test_a_failure_is_kept_whatever_its_text_is():
    failure = Failure("OSError", "no such file: caf\udce9")  # a name that is not Unicode
    assert decode_failure(encode_failure(failure)).message == "no such file: caf\\udce9"
    told_oddly = Failure("Discard", ValueError("gone"))  # type: ignore[arg-type]  # `raise Discard(failure)`
    assert decode_failure(encode_failure(told_oddly)) == Failure("Discard", "gone")


def test_a_dead_letter_keeps_the_message_its_reason_and_a_bounded_error():
    failure = Failure("ValueError", "x" * (MAX_FAILURE_TEXT + 5))
    flat = flatten(GOOD, b"reason", b"failed", b"error", encode_failure(failure))
    found = decode_dead_letter(flat)
    assert found.envelope == Envelope("m", "t", b"{}")
    assert found.reason is DeadReason.FAILED
    assert found.failure == Failure("ValueError", "x" * MAX_FAILURE_TEXT)


def test_a_dead_letter_with_an_unknown_reason_is_not_readable():
    with pytest.raises(UndecodableError, match="reason"):
        decode_dead_letter(flatten(GOOD, b"reason", b"bored", b"error", b"{}"))
