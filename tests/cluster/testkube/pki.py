# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Keys and certificates of one cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .proc import run

DAYS = "730"


def _request(*words: str | Path) -> None:
    """Make a key and a certificate or a request for one; elliptic curves, because their keys are made at once."""
    run(["openssl", "req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *words])


@dataclass(frozen=True)
class Pki:
    """Makes what is missing in ``directory``; what is there is kept."""

    directory: Path

    def key(self, name: str) -> Path:
        """The file of a private key."""
        return self.directory / f"{name}.key"

    def certificate(self, name: str) -> Path:
        """The file of a certificate."""
        return self.directory / f"{name}.crt"

    def authority(self, name: str) -> None:
        """A self-signed certificate authority."""
        if self.certificate(name).exists():
            return
        self._private()
        draft = self.directory / f"{name}.crt.new"
        subject = f"/CN=kubeferry test {name}"
        # Python 3.13 refuses an authority that doesn't say it is one in this way (VERIFY_X509_STRICT).
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        _request("-x509", "-days", DAYS, "-keyout", self.key(name), "-out", draft, "-subj", subject, *usage)
        draft.replace(self.certificate(name))

    def issue(self, name: str, authority: str, user: str, group: str = "", names: Sequence[str] = ()) -> None:
        """A certificate for ``user`` (the CN) in ``group`` (the O), also as a server for ``names``.

        ``names`` are subject alternative names as OpenSSL writes them, such as ``IP:127.0.0.1``.
        """
        if self.certificate(name).exists():
            return
        request = self.directory / f"{name}.csr"
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        extensions = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth,serverAuth"]
        if names:
            extensions.append("subjectAltName=" + ",".join(names))
        added = [word for extension in extensions for word in ("-addext", extension)]
        _request("-new", "-keyout", self.key(name), "-out", request, "-subj", subject, *added)
        draft = self.directory / f"{name}.crt.new"
        sign: list[str | Path] = ["openssl", "x509", "-req", "-in", request, "-out", draft, "-days", DAYS]
        sign += ["-CA", self.certificate(authority), "-CAkey", self.key(authority)]
        run([*sign, "-copy_extensions", "copyall"])
        request.unlink()
        draft.replace(self.certificate(name))

    def signing_key(self, name: str) -> None:
        """An RSA key pair ``name.key`` and ``name.pub``, to sign service-account tokens."""
        public = self.directory / f"{name}.pub"
        if public.exists():
            return
        self._private()
        run(["openssl", "genrsa", "-out", self.key(name), "2048"])
        run(["openssl", "rsa", "-in", self.key(name), "-pubout", "-out", public])

    def _private(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
