# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import socket
import ssl
import threading

import pytest
from tlskit import make_keys

from ansible_collections.kubeferry.pvc.plugins.plugin_utils._server_tls import Unusable, context, why


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("tls"))


def refused(keys, name, tls=True, ca=None):
    """What `why` makes of a server that has the certificate for 127.0.0.1, or that has no TLS."""
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(keys / "cert.pem", keys / "key.pem")

    def serve():
        wire, _address = listening.accept()
        with wire:
            if not tls:
                wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            try:
                served.wrap_socket(wire, server_side=True).close()
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listening.getsockname()) as wire, pytest.raises(ssl.SSLError) as raised:
            context(ca, verify=True).wrap_socket(wire, server_hostname=name)
        thread.join()
    return why(raised.value)


def test_what_is_wrong_with_a_certificate_comes_with_what_to_do(keys):
    assert "self-signed certificate; name the file of its authority in ca_cert" in refused(keys, "127.0.0.1")
    assert "write a name into the URL" in refused(keys, "localhost", ca=str(keys / "cert.pem"))


def test_a_server_without_tls_is_told_as_one(keys):
    assert refused(keys, "127.0.0.1", tls=False) == (
        "the server answers without TLS there: try ws:// in the URL, or another port"
    )


def test_a_file_of_authorities_that_is_none_is_named(keys):
    missing, key = str(keys / "none.pem"), str(keys / "key.pem")
    with pytest.raises(Unusable, match=f"ca_cert {missing} can't be read .No such file or directory"):
        context(missing, verify=True)
    with pytest.raises(Unusable, match=f"ca_cert {key} has no certificate in PEM"):
        context(key, verify=True)


def test_without_a_check_no_file_is_needed(keys):
    assert context(str(keys / "none.pem"), verify=False).verify_mode is ssl.CERT_NONE
