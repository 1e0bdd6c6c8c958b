"""The border: every error of the server, the system and hiredis, as ours. Nothing foreign gets past it.

An error reply is known by its first word. Replies of scripts are unwrapped first: Redis 6.2 puts the inner
error behind a preamble, later servers put the place in the script after it.
"""

from __future__ import annotations

import os
import re
import ssl
from socket import gaierror
from typing import Final

import hiredis
from msgspec import Struct

from leanmq_topology.errors import BrokerError, BrokerFullError, BrokerRefusedError, BrokerUnavailableError

_PREAMBLE = re.compile(r"^(?:ERR )?Error running script \(call to [^)]*\): (?:@user_script: ?\d+: ?)*-?")
_POSTSCRIPT = re.compile(r",? script: .*$", re.DOTALL)
_LONGEST = 300
_STREAM_GONE = "UNBLOCKED the stream key no longer exists"
"""What Redis 7.0 says to a waiting read whose stream was deleted; others say NOGROUP."""


class _Meaning(Struct, frozen=True):
    kind: type[BrokerError]
    text: str
    hint: str | None = None


_CREDENTIALS = "check user and password in the broker's URL"

_AUTHORITY = "name the certificate of the authority that signed it: `?ca_file=/path/to/ca.pem` in the URL"
_CERTIFICATES: Final = {
    # OpenSSL's numbers: X509_V_ERR_CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
    10: "renew the server's certificate",
    62: "use the host name that its certificate is made out to, or have it made out to this one",
    64: "use the host name that its certificate is made out to, or have it made out to this one",
}

REPLIES: Final[dict[str, _Meaning]] = {
    "OOM": _Meaning(
        BrokerFullError,
        "the server is at its memory limit",
        "let workers drain it, or raise `maxmemory`; nothing was written",
    ),
    "NOAUTH": _Meaning(BrokerRefusedError, "the server wants a password", _CREDENTIALS),
    "WRONGPASS": _Meaning(BrokerRefusedError, "the server refuses this user and password", _CREDENTIALS),
    "NOPERM": _Meaning(
        BrokerRefusedError,
        "this user lacks a right that is needed",
        "applying needs an admin's rights, running and sending those on the keys of the namespace",
    ),
    "DENIED": _Meaning(
        BrokerRefusedError,
        "the server is in protected mode",
        "set a password on the server, or reach it from its own machine",
    ),
    "READONLY": _Meaning(
        BrokerUnavailableError, "the server became a read-only replica", "name the primary instead"
    ),
    "NOREPLICAS": _Meaning(
        BrokerUnavailableError,
        "the server has too few replicas to accept writes",
        "see `min-replicas-to-write`",
    ),
    "LOADING": _Meaning(BrokerUnavailableError, "the server is still loading its data", "try again shortly"),
    "BUSY": _Meaning(BrokerUnavailableError, "the server is busy running a script", "try again shortly"),
    "MISCONF": _Meaning(
        BrokerUnavailableError,
        "the server cannot write to its disk and refuses changes",
        "look at free disk space and at the server's log",
    ),
    "MASTERDOWN": _Meaning(
        BrokerUnavailableError, "this replica has lost its primary", "name the primary instead"
    ),
    "UNBLOCKED": _Meaning(BrokerUnavailableError, "the server ended a waiting read: its role changed"),
    "TRYAGAIN": _Meaning(BrokerUnavailableError, "the cluster is moving these keys", "try again shortly"),
    "CLUSTERDOWN": _Meaning(BrokerUnavailableError, "the cluster is down"),
    "MOVED": _Meaning(
        BrokerRefusedError,
        "these keys live on another node of a cluster",
        "Redis Cluster is not supported yet",
    ),
    "ASK": _Meaning(
        BrokerRefusedError,
        "these keys live on another node of a cluster",
        "Redis Cluster is not supported yet",
    ),
    "CROSSSLOT": _Meaning(
        BrokerRefusedError,
        "the server is a cluster and the keys span its slots",
        "Redis Cluster is not supported yet",
    ),
    "WRONGTYPE": _Meaning(
        BrokerError,
        "a key of the namespace holds something that is not ours",
        "`leanmq plan` names it; another program may share the namespace",
    ),
    "NOGROUP": _Meaning(BrokerError, "a queue or its consumer group is missing", "run `leanmq apply`"),
    "UNPLACED": _Meaning(
        BrokerError,
        "the record of a queue does not say where its messages lie",
        "set its field `tag` again: to the namespace, unless the queue's other keys begin with another {tag}",
    ),
    "NOSCRIPT": _Meaning(BrokerError, "the server forgot a script while it was being called"),
    "EXECABORT": _Meaning(BrokerError, "the server discarded a transaction"),
}
"""First word of an error reply -> what it means."""

SAYINGS: Final[dict[str, _Meaning]] = {
    "max number of clients reached": _Meaning(
        BrokerUnavailableError,
        "the server has as many clients as it takes",
        "see `maxclients`, and whether some program opens a connection for every call",
    ),
    "AUTH <password> called without any password configured": _Meaning(
        BrokerRefusedError,
        "the server has no password for this user, and the URL names one",
        "leave the password out of the broker's URL, or set it on the server",
    ),
}
"""What a server says in plain words behind `ERR` -> what it means."""

CHANGED_ROLE: Final = frozenset({"READONLY", "MASTERDOWN", "UNBLOCKED"})
"""What a connection hears that reached the wrong server, or may have: it connects anew for the next call."""


def unwrap_reply(text: str) -> str:
    """An error reply without what a script wrapped around it."""
    return _POSTSCRIPT.sub("", _PREAMBLE.sub("", text, count=1), count=1)


def reply_code(text: str) -> str:
    """The first word of an error reply: `OOM`, `NOGROUP`, `ERR`… `NOGROUP` for any stream that is gone."""
    said = unwrap_reply(text)
    return "NOGROUP" if said == _STREAM_GONE else said.partition(" ")[0]


def translate_reply(text: str, *, where: str) -> BrokerError:
    """The error that an error reply stands for. `where` is the masked URL of the server."""
    code = reply_code(text)
    meaning = REPLIES.get(code) or next((SAYINGS[said] for said in SAYINGS if said in text), None)
    if meaning is None:
        return BrokerError(f"{where} answered: {unwrap_reply(text)[:_LONGEST]}")
    detail = (
        f" ({unwrap_reply(text)[:_LONGEST]})"
        if code in {"NOPERM", "WRONGTYPE", "NOGROUP", "UNPLACED"}
        else ""
    )
    return meaning.kind(f"{where}: {meaning.text}{detail}", hint=meaning.hint)


def translate_break(failure: Exception, *, where: str, unknown: bool = True) -> BrokerUnavailableError:
    """What ended a connection, as ours. `unknown`: the operation may have been carried out."""
    if isinstance(failure, hiredis.HiredisError):
        return connection_lost(f"unreadable answer: {failure}", where=where, unknown=unknown)
    return connection_lost(_reason(failure), where=where, unknown=unknown)


def connection_lost(reason: str, *, where: str, unknown: bool) -> BrokerUnavailableError:
    return BrokerUnavailableError(
        f"lost the connection to {where}: {reason[:_LONGEST]}",
        hint="is the server up? `leanmq server status` tells of the embedded one",
        unknown=unknown,
    )


def cannot_connect(reason: str | Exception, *, where: str) -> BrokerUnavailableError:
    said = reason if isinstance(reason, str) else _reason(reason)
    return BrokerUnavailableError(
        f"cannot reach {where}: {said[:_LONGEST]}",
        hint="start the server, or name another with --url; `embedded:` needs none",
    )


def connecting_took_too_long(*, where: str, tls: bool) -> BrokerUnavailableError:
    failure = cannot_connect("it did not answer in time", where=where)
    if tls:  # a server without TLS takes the greeting for an unfinished command and waits for the rest
        failure.hint = "is the server up, and is this its TLS port? Without TLS the URL begins with redis://"
    return failure


def refuse_tls(failure: BaseException, *, where: str) -> BrokerRefusedError | None:
    """What a failed TLS handshake means; None where TLS is not what failed."""
    if not isinstance(failure, ssl.SSLError):
        return None
    if isinstance(failure, ssl.SSLCertVerificationError):
        text = f"{where} cannot be trusted: {failure.verify_message.rstrip('.').lower()}"
        return BrokerRefusedError(text, hint=_CERTIFICATES.get(failure.verify_code, _AUTHORITY))
    if failure.reason == "WRONG_VERSION_NUMBER":
        return BrokerRefusedError(f"{where} does not speak TLS", hint="use redis:// or name its TLS port")
    return BrokerRefusedError(f"{where}: the TLS handshake failed: {failure.reason or failure}"[:_LONGEST])


def timed_out(*, where: str, seconds: float) -> BrokerUnavailableError:
    return BrokerUnavailableError(
        f"no answer from {where} within {seconds:g} s",
        hint="the server may be overloaded or stopped; `timeout=` in its URL sets the limit",
        unknown=True,
    )


def _reason(failure: Exception) -> str:
    """What the system said, without its numbers and addresses: those are told already."""
    if isinstance(failure, OSError) and failure.errno and not isinstance(failure, gaierror | ssl.SSLError):
        return os.strerror(failure.errno)
    said = getattr(failure, "reason", None) or getattr(failure, "strerror", None) or str(failure)
    return said or "it did not answer in time"
