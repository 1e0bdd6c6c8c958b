"""`package.module:function` as text: taken apart, and refused before anything is imported.

Importing runs code, so what can be told from the text alone is told first: a path, a private name, a module
of the standard library (`os:system`) never gets as far as an import.
"""

from __future__ import annotations

import sys

from msgspec import Struct


class Reference(Struct, frozen=True):
    """Where a handler lives: a module, and the attribute in it (dots allowed: `service.handle`)."""

    module: str
    attribute: str

    @property
    def package(self) -> str:
        """The outermost package, the part that a folder on the path either has or has not."""
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


class Refused(Struct, frozen=True):
    """Why a reference is not even imported."""

    code: str
    reason: str
    suggestion: str


def read_reference(text: str) -> Reference | Refused:
    """Take `package.module:function` apart, or say why it is not one."""
    module, colon, attribute = text.partition(":")
    if not (colon and module and attribute):
        return _misshapen(text, "it is not of the form `package.module:function`", _guess(text))
    if module.startswith(".") and "/" not in module:
        return _misshapen(text, "it is relative", "write the whole name, from the topology's folder on")
    parts = [*module.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        return _misshapen(text, "it is not made of Python names", _guess(text))
    if any(part.startswith("_") for part in parts):
        return Refused("LMQ311", f"{text!r} names something private", "give the function a public name")
    reference = Reference(module, attribute)
    if reference.package in sys.stdlib_module_names:
        return _of_the_standard_library(reference)
    return reference


def _misshapen(text: str, reason: str, suggestion: str) -> Refused:
    return Refused("LMQ310", f"{text!r} cannot be called: {reason}", suggestion)


def _guess(text: str) -> str:
    """What a path or a dotted name most likely meant."""
    path, _, attribute = text.partition(":")
    module = path.replace("\\", "/").removesuffix(".py").strip("/.").replace("/", ".")
    if module and not attribute and "." in module and not path.endswith(".py"):
        module, _, attribute = module.rpartition(".")
    parts = [*module.split("."), *(attribute or "function").split(".")]
    if module and all(part.isidentifier() for part in parts):
        return f'write call: "{module}:{attribute or "function"}"'
    return 'write call: "package.module:function"'


def _of_the_standard_library(reference: Reference) -> Refused:
    return Refused(
        "LMQ312",
        f"{str(reference)!r} names Python's own module {reference.package!r}",
        "call a function of your own that uses it; a module of yours needs a name Python does not use",
    )
