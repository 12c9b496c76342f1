# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""TLS to the server: checked by default, with an authority of the user's own, or not at all where that is asked for."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .recorder import Recorder
from .test_faults import assert_whole


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secure(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = Recorder(tls=context).start()
    yield server
    server.stop()


def test_an_authority_of_the_users_own(playbooks, secure, certificate):
    run = playbooks.run("faults.yml", url=secure.url, KUBEFERRY_EVENTS_CA_CERT=str(certificate))
    assert (run.status, run.warnings) == (0, [])
    assert_whole(secure.events)


def test_no_check_at_all_is_warned_of(playbooks, secure):
    run = playbooks.run("faults.yml", url=secure.url, KUBEFERRY_EVENTS_VALIDATE_CERTS="false")
    assert (run.status, len(run.warnings)) == (0, 1)
    assert "validate_certs is off" in run.warnings[0]
    assert_whole(secure.events)


def test_what_is_neither_yes_nor_no_publishes_nothing(playbooks, secure):
    """Ansible would take it for a no, and the token would go to whoever answers."""
    run = playbooks.run("faults.yml", url=secure.url, KUBEFERRY_EVENTS_VALIDATE_CERTS="maybe")
    assert (run.status, len(run.warnings)) == (0, 1)
    assert "validate_certs is neither true nor false" in run.warnings[0]
    assert secure.frames == []


def test_a_token_without_encryption_is_warned_of(playbooks):
    """0.0.0.0 is this machine, and nobody listens at that port: nothing leaves it."""
    run = playbooks.run("faults.yml", url="ws://0.0.0.0:9/ws", KUBEFERRY_EVENTS_TOKEN="t")
    assert run.status == 0
    assert "the token goes to 0.0.0.0 without encryption" in run.warnings[0]


def test_refused(playbooks, secure):
    run = playbooks.run("faults.yml", url=secure.url)
    assert run.status == 0
    assert len(run.warnings) == 1
    assert "certificate verify failed" in run.warnings[0]
    assert secure.frames == []
