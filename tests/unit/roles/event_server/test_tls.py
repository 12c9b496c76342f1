# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import pytest
from kubeferry_events.errors import SettingsError
from kubeferry_events.tls import server_context
from tlskit import make_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    directory = make_keys(tmp_path_factory.mktemp("tls"))
    both = (directory / "cert.pem").read_text() + (directory / "key.pem").read_text()
    (directory / "both.pem").write_text(both)
    other = make_keys(tmp_path_factory.mktemp("other"))
    (other / "key.pem").rename(directory / "other.pem")
    return directory


@pytest.mark.parametrize(("cert", "key"), [("cert.pem", "key.pem"), ("both.pem", "")])
def test_a_certificate_with_its_key(keys, cert, key):
    assert server_context(str(keys / cert), str(keys / key) if key else "")


@pytest.mark.parametrize(
    ("cert", "key", "why"),
    [
        (
            "none.pem",
            "key.pem",
            "KUBEFERRY_TLS_CERT={keys}/none.pem can't be read: No such file or directory.",
        ),
        (
            "cert.pem",
            "none.pem",
            "KUBEFERRY_TLS_KEY={keys}/none.pem can't be read: No such file or directory.",
        ),
        ("key.pem", "key.pem", "KUBEFERRY_TLS_CERT={keys}/key.pem has no certificate in PEM."),
        ("cert.pem", "cert.pem", "KUBEFERRY_TLS_KEY={keys}/cert.pem has no private key in PEM."),
        ("cert.pem", "", "has no private key: name the file that has it in KUBEFERRY_TLS_KEY."),
        ("cert.pem", "other.pem", "other.pem isn't the key of the certificate in KUBEFERRY_TLS_CERT="),
        (
            "cert.pem",
            "locked.pem",
            "KUBEFERRY_TLS_KEY={keys}/locked.pem has a key with a passphrase, which nobody",
        ),
    ],
)
def test_what_is_wrong_is_named(keys, cert, key, why):
    with pytest.raises(SettingsError) as refused:
        server_context(str(keys / cert), str(keys / key) if key else "")
    assert why.format(keys=keys) in str(refused.value)
