"""The broker's address, judged without any client library, and where secrets may stand."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from leanmq_topology.diagnostics import Diagnostic, did_you_mean
from leanmq_topology.topology.draft import Draft, Findings

_SERVERS = ("redis", "rediss", "valkey", "valkeys")
SCHEMES = (
    "embedded",
    "unix",
    *_SERVERS,
    *(f"{server}+{layout}" for layout in ("sentinel", "cluster") for server in _SERVERS),
)
MASK = "***"
_URL = ("broker", "url")
_SECRET_PLACES = (_URL,)


def check_url(draft: Draft) -> Findings:
    url = draft.topology.broker.url
    problem = url is not None and _find_problem(url)
    if problem:
        message, suggestion = problem
        yield _masked(draft.error("LMQ418", message, _URL, suggestion=suggestion), url)


def check_password(draft: Draft) -> Findings:
    """A password that stands in the file stands in its history too."""
    url = draft.topology.broker.url
    for password in _passwords(url):
        found = draft.warning(
            "LMQ419",
            "the server's password stands in the file",
            _URL,
            suggestion="write url: ${LEANMQ_URL}, or take the password from ${file:secrets/password}",
        )
        if password != MASK and found.span is not None and password in unquote(found.span.source):
            yield _masked(found, url)
            return


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


def mask_url(url: str) -> str:
    """The address with its password replaced, fit to be shown."""
    for password in _passwords(url):
        url = url.replace(f":{password}@", f":{MASK}@").replace(f"password={password}", f"password={MASK}")
    return url


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
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "the address has a port or a host that cannot be", f"write {scheme}://host:6379"
    if scheme == "unix":
        return None if parts.path else ("the address names no socket", "write unix:///run/valkey.sock")
    if not parts.hostname or not url.lower().startswith(f"{scheme.lower()}://"):
        return "the address names no host", f"write {scheme}://host:6379"
    if port == 0:
        return "port 0 is not one a server listens on", f"write {scheme}://{parts.hostname}:6379"
    return _find_database_problem(scheme, parts)


def _find_database_problem(scheme: str, parts: SplitResult) -> tuple[str, str | None] | None:
    database = parts.path.strip("/")
    if database and not database.isdecimal() and "+sentinel" not in scheme:
        return f"{database!r} is not the number of a database", f"write {scheme}://host:6379/0"
    return None


def _passwords(url: str | None) -> list[str]:
    """Passwords in an address, as they are written there and decoded."""
    if url is None:
        return []
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    found = [parts.password or "", *parse_qs(parts.query).get("password", [])]
    return [form for password in found if password for form in dict.fromkeys((password, unquote(password)))]


def _masked(found: Diagnostic, url: str | None) -> Diagnostic:
    """The finding with the password taken out of the source line it shows."""
    if found.span is None:
        return found
    source = found.span.source
    for password in _passwords(url):
        source = source.replace(password, MASK)
    return replace(found, span=replace(found.span, source=source))
