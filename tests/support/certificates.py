"""A certificate authority of one's own, made with the `openssl` command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.promises import require_program


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    path: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Signs certificates in a folder of its own."""

    folder: Path
    name: str = "ca"

    @property
    def path(self) -> Path:
        """Its own certificate: what a client's `ca_file` names."""
        return self.folder / f"{self.name}.pem"

    def make(self) -> Authority:
        self._openssl(
            "req", "-x509", *self._new_key(self.name), "-out", str(self.path), "-days", "2",
            "-subj", f"/CN={self.name}", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip
        return self

    def sign(self, name: str, *alternative: str, days: int = 2) -> Certificate:
        """A certificate for these names, such as `DNS:localhost` and `IP:127.0.0.1`."""
        request, certificate = self.folder / f"{name}.csr", self.folder / f"{name}.pem"
        extensions = self.folder / f"{name}.cnf"
        extensions.write_text(f"subjectAltName={','.join(alternative)}\n")
        self._openssl("req", "-new", *self._new_key(name), "-out", str(request), "-subj", f"/CN={name}")
        self._openssl(
            "x509", "-req", "-in", str(request), "-out", str(certificate), "-days", str(days),
            "-CA", str(self.path), "-CAkey", str(self._key(self.name)), "-CAcreateserial",
            "-extfile", str(extensions),
        )  # fmt: skip
        return Certificate(certificate, self._key(name))

    def _new_key(self, name: str) -> tuple[str, ...]:
        return (
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            str(self._key(name)),
        )

    def _key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def _openssl(self, *words: str) -> None:
        program = require_program("openssl", what_for="a certificate")
        subprocess.run([program, *words], check=True, capture_output=True, timeout=30)
