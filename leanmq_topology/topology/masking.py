"""Passwords in a server's address: found, and never shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import parse_qs, unquote, urlsplit

from leanmq_topology.diagnostics import Diagnostic, Span

MASK = "***"


def find_passwords(url: str | None) -> list[str]:
    """Passwords in an address, each as it is written there and decoded."""
    if url is None:
        return []
    try:
        parts = urlsplit(url)
    except ValueError:
        # Too malformed to be split: whatever stands before the @ may be one.
        return [url.rpartition("@")[0].rpartition(":")[2]] if "@" in url else []
    found = [parts.password or "", *parse_qs(parts.query).get("password", [])]
    return [form for password in found if password for form in dict.fromkeys((password, unquote(password)))]


def mask_url(url: str) -> str:
    """The address with its password replaced, fit to be shown."""
    for password in find_passwords(url):
        url = url.replace(f":{password}@", f":{MASK}@").replace(f"password={password}", f"password={MASK}")
    return url


def mask_findings(found: Iterable[Diagnostic], url: str | None) -> list[Diagnostic]:
    """The findings with the address's password taken out of every source line they show."""
    passwords = [password for password in find_passwords(url) if password != MASK]
    if not passwords:
        return list(found)
    return [
        replace(item, span=_mask_span(item.span, passwords)) if item.span is not None else item
        for item in found
    ]


def _mask_span(span: Span, passwords: Iterable[str]) -> Span:
    """What is masked before the place moves it, what is masked inside makes it shorter or longer."""
    start = span.column - 1
    before, inside, after = (
        _mask_text(part, passwords)
        for part in (
            span.source[:start],
            span.source[start : start + span.length],
            span.source[start + span.length :],
        )
    )
    return replace(
        span,
        column=len(before) + 1 if before != span.source[:start] else span.column,
        length=max(1, len(inside)),
        source=before + inside + after,
    )


def _mask_text(text: str, passwords: Iterable[str]) -> str:
    for password in passwords:
        text = text.replace(password, MASK)
    return text
