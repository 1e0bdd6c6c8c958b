"""An envelope as the fields of a stream entry, and back. An entry without them is not ours to read.

`id type data headers` are always there, empty if absent. `data` is JSON that nobody between sender and
handler looks into; `headers` is a JSON object of strings. `attempt` and `expires` are decimal, and left out
or empty where a message never failed or never expires: a word more takes the server as long as a look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import MAX_FAILURE_TEXT, DeadReason, Failure

FIELDS: Final = (b"id", b"type", b"data", b"headers", b"attempt", b"expires")

_OPTIONAL: Final = FIELDS[4:]
_NO_HEADERS: Final[Mapping[str, str]] = {}
_read_headers = msgspec.json.Decoder(dict[str, str]).decode
_write_json = msgspec.json.Encoder().encode
_read_failure = msgspec.json.Decoder(dict[str, Any]).decode


class DeadLetter(msgspec.Struct, frozen=True):
    """One entry of a dead-letter queue: the message as it was, and why it lies there."""

    envelope: Envelope
    reason: DeadReason
    failure: Failure


class UndecodableError(Exception):
    """An entry is not one of ours; the text says what is wrong with it. Stays inside the package."""


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Headers as they are stored; no headers are the empty string."""
    return _write_json(headers) if headers else b""


def encode_failure(failure: Failure) -> bytes:
    """The `error` field of a dead letter. What a handler gave as its text becomes Unicode, whatever it is."""
    text = str(failure.message)[:MAX_FAILURE_TEXT]
    return _write_json({"type": failure.type, "message": text.encode(errors="backslashreplace").decode()})


def decode_failure(raw: bytes) -> Failure:
    """What `encode_failure` made. What is not readable is a failure without words."""
    try:
        found = _read_failure(raw)
    except ValueError:
        return Failure("", "")
    return Failure(str(found.get("type", "")), str(found.get("message", "")))


def encode_fields(envelope: Envelope) -> list[bytes]:
    """The values of `FIELDS`, in their order."""
    expires = b"" if envelope.expires_ms is None else b"%d" % envelope.expires_ms
    return [
        envelope.id.encode(),
        envelope.type.encode(),
        envelope.data,
        encode_headers(envelope.headers),
        b"%d" % envelope.attempt,
        expires,
    ]


def decode_fields(flat: Sequence[bytes]) -> Envelope:
    """The envelope of a stream entry, given as field, value, field, value…

    Fields beyond the six are left alone. Raises `UndecodableError` for anything else.
    """
    attempt = expires = b""
    match flat:
        case [b"id", message_id, b"type", kind, b"data", data, b"headers", headers]:
            pass
        case [b"id", message_id, b"type", kind, b"data", data, b"headers", headers, b"expires", expires]:
            pass
        case _:
            message_id, kind, data, headers, attempt, expires = _find_fields(flat)
    if not message_id:
        raise UndecodableError("the id is empty")
    try:
        return Envelope(
            message_id.decode(),
            kind.decode(),
            data,
            _read_headers(headers) if headers else _NO_HEADERS,
            int(attempt) if attempt else 0,
            int(expires) if expires else None,
        )
    except UnicodeDecodeError:
        raise UndecodableError("id or type is not UTF-8") from None
    except msgspec.DecodeError as failure:
        raise UndecodableError(f"the headers are not a JSON object of strings: {failure}") from None
    except ValueError:
        raise UndecodableError("attempt or expires is not a number") from None


def decode_each(entries: Iterable[Sequence[bytes]]) -> list[Envelope | UndecodableError]:
    """What `decode_fields` gives or raises for each of them.

    Neighbours are most often of one type and were sent together: what is the same is decoded once, so
    envelopes may share their headers.
    """
    found: list[Envelope | UndecodableError] = []
    last_kind, last_headers = b"", b""
    kind_text, read_headers = "", _NO_HEADERS
    for flat in entries:
        try:
            # Taken apart at once: for entries as most are written that takes half of what slices do.
            expires = b""
            match flat:
                case [b"id", message_id, b"type", kind, b"data", data, b"headers", headers]:
                    pass
                case [b"id", message_id, b"type", kind, b"data", data, b"headers", headers, b"expires", ends]:
                    expires = ends
                case _:
                    message_id = kind = data = headers = b""
            if message_id:
                if kind != last_kind:
                    kind_text, last_kind = kind.decode(), kind
                if headers != last_headers:
                    read_headers, last_headers = _read_headers(headers) if headers else _NO_HEADERS, headers
                found.append(
                    Envelope(
                        message_id.decode(),
                        kind_text,
                        data,
                        read_headers,
                        0,
                        int(expires) if expires else None,
                    )
                )
                continue
        except ValueError:
            pass  # it has other fields, or something is wrong with it: said by whoever looks closely
        try:
            found.append(decode_fields(flat))
        except UndecodableError as failure:
            found.append(failure)
    return found


def decode_dead_letter(flat: Sequence[bytes]) -> DeadLetter:
    """A dead letter of one of ours. Raises `UndecodableError` where the original was not."""
    envelope = decode_fields(flat)
    pairs = dict(zip(flat[::2], flat[1::2], strict=False))
    try:
        failure = _read_failure(pairs.get(b"error", b"{}") or b"{}")
        reason = DeadReason(pairs.get(b"reason", b"").decode())
    except ValueError as wrong:
        raise UndecodableError(f"reason or error is not readable: {wrong}") from None
    return DeadLetter(
        envelope, reason, Failure(str(failure.get("type", "")), str(failure.get("message", "")))
    )


def _find_fields(flat: Sequence[bytes]) -> list[bytes]:
    pairs = dict(zip(flat[::2], flat[1::2], strict=False))
    missing = [name.decode() for name in FIELDS if name not in pairs and name not in _OPTIONAL]
    if missing:
        raise UndecodableError(f"the entry has no {', '.join(missing)}")
    return [pairs.get(name, b"") for name in FIELDS]
