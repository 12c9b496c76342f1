# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""TLS to the server: checked by default, with an authority of the user's own, or not at all where that is asked for."""

from __future__ import annotations

import ssl

import pytest
from tlskit import make_keys

from .recorder import Recorder
from .test_faults import assert_whole


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = make_keys(tmp_path_factory.mktemp("tls"))
    return directory / "cert.pem"


@pytest.fixture
def secure(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
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
    assert "self-signed certificate; name the file of its authority in ca_cert" in run.warnings[0]
    assert secure.frames == []


def test_a_file_of_authorities_that_is_none_is_named(playbooks, secure, certificate):
    missing = certificate.with_name("none.pem")
    run = playbooks.run("faults.yml", url=secure.url, KUBEFERRY_EVENTS_CA_CERT=str(missing))
    assert (run.status, len(run.warnings)) == (0, 1)
    assert f"ca_cert {missing} can't be read (No such file or directory)" in run.warnings[0]


def test_without_a_check_no_file_of_authorities_is_needed(playbooks, secure):
    run = playbooks.run(
        "faults.yml",
        url=secure.url,
        KUBEFERRY_EVENTS_CA_CERT="none.pem",
        KUBEFERRY_EVENTS_VALIDATE_CERTS="false",
    )
    assert (run.status, len(run.warnings)) == (0, 1)
    assert_whole(secure.events)


def test_a_server_that_wants_tls(playbooks, secure):
    run = playbooks.run("faults.yml", url=secure.url.replace("wss://", "ws://"))
    assert (run.status, len(run.warnings)) == (0, 1)
    assert "if it wants TLS, try wss:// in the URL" in run.warnings[0]
