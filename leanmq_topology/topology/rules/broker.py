"""The broker's address, judged without any client library, and where secrets may stand."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit

from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.topology.draft import Draft, Findings
from leanmq_topology.topology.masking import MASK, find_passwords, mask_url

_SERVERS = ("redis", "rediss", "valkey", "valkeys")
SCHEMES = (
    "embedded",
    "unix",
    *_SERVERS,
    *(f"{server}+{layout}" for layout in ("sentinel", "cluster") for server in _SERVERS),
)
_URL = ("broker", "url")
_SECRET_PLACES = (_URL,)


def check_url(draft: Draft) -> Findings:
    url = draft.topology.broker.url
    problem = None if url is None else _find_problem(url)
    if problem is not None:
        message, suggestion = problem
        yield draft.error("LMQ418", message, _URL, suggestion=suggestion)


def check_password(draft: Draft) -> Findings:
    """A password that stands in the file stands in its history too."""
    span = draft.document.span(_URL)
    written = "" if span is None else unquote(span.source)
    passwords = find_passwords(draft.topology.broker.url)
    if any(password != MASK and password in written for password in passwords):
        yield draft.warning(
            "LMQ419",
            "the server's password stands in the file",
            _URL,
            suggestion="write url: ${LEANMQ_URL}, or take the password from ${file:secrets/password}",
        )


def check_secret_places(draft: Draft) -> Findings:
    """Everything but the address is recorded on the server and shown in plans, in clear."""
    for path in sorted(draft.document.secrets):
        if tuple(path) not in _SECRET_PLACES:
            yield draft.error(
                "LMQ420",
                "a secret cannot stand here: this value is recorded on the server and shown in plans",
                tuple(path),
                suggestion="use ${file:…} in broker.url only",
            )


def _find_problem(url: str) -> tuple[str, str | None] | None:
    scheme, colon, rest = url.partition(":")
    if not colon or scheme.lower() not in SCHEMES:
        hint = did_you_mean(scheme, SCHEMES) if colon else f"write redis://{mask_url(url)}"
        return (
            f"{mask_url(scheme)!r} is not a scheme of a server's address; embedded:, redis://, unix:// are",
            hint,
        )
    if scheme == "embedded":
        path = rest.partition("?")[0]
        return (f"embedded: takes no address, found {path!r}", "write embedded:") if path else None
    return _find_address_problem(scheme, url)


def _find_address_problem(scheme: str, url: str) -> tuple[str, str | None] | None:
    form = f"write {scheme}://host:6379"
    try:
        parts = urlsplit(url)
        hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
        ports = [host.port for host in hosts]
    except ValueError:
        return "the address has a host or a port that cannot be", form
    if scheme == "unix":
        return None if parts.path else ("the address names no socket", "write unix:///run/valkey.sock")
    if not all(host.hostname for host in hosts):
        return "the address names no host", form
    if 0 in ports:
        return "port 0 is none that a server listens on", form
    return _find_database_problem(scheme, parts)


def _find_database_problem(scheme: str, parts: SplitResult) -> tuple[str, str | None] | None:
    """The path is the number of a database; a Sentinel address has the service's name before it."""
    database = parts.path.strip("/")
    if database and not database.isdecimal() and "+sentinel" not in scheme:
        return f"{database!r} is not the number of a database", f"write {scheme}://host:6379/0"
    return None
