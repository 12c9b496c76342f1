# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault of an exec stream, through a whole copy: complete in the end, or a failure that names what is missing.

No script is named here. A copy without fault shows which commands the engine runs and what their streams carry; then
each kind of fault befalls a choice of them. Both directories are read afterwards by means that aren't the engine's.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from execfaults import V4, V5, Fault
from execserver import ExecServer
from fakeapi import pod
from ferry import CONTENTS, NAMED, PULL, PUSH, REFUSED, RELAY, TARGET_POD, WHOLE, Ferry, spots
from toolbox import Box

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy, _exec, _exec_stream

WAYS = (PULL, PUSH, RELAY)
SAMPLE = 2
"""So many places of each kind of fault, way and version; another version gets others."""
ALWAYS = 1000

OUTPUT = ("cut", "cut-frame", "cut-header", "reset", "truncate")
INPUT = ("cut-input", "lose-input")
ANY_INPUT = (*INPUT, "garble-input")
STATUS = ("no-status", "cut-status")
HARMLESS = {
    "noise": {"after": 300, "message": "warning: this is not an error\n"},
    "slow-status": {"after": 50},
    "abrupt": {},
    "linger": {},
    "banner": {"message": "Welcome to the machine!\n"},
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Nobody waits long: neither for an answer nor before the next attempt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_copy, "BACKOFF_SECONDS", 0.0)
        patch.setattr(_exec_stream, "_AFTER_STATUS", 0.1)
        patch.setattr(_exec, "Limits", lambda: _exec_stream.Limits(connect=1.0, ping=0.1, stall=0.7))
        yield


@pytest.fixture(scope="module", params=[V4, V5], ids=["v4", "v5"])
def server(request, boxes):
    """A server with just one version, so that everything goes through it."""
    with ExecServer(versions=(request.param,)) as started:
        started.environment = {"PATH": boxes["busybox"].place}
        started.api.add("pods", pod(TARGET_POD))
        yield started


@pytest.fixture(scope="module", params=WAYS)
def ferry(request, server, tmp_path_factory):
    return Ferry(server, request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def streams(ferry):
    """What a copy without fault runs."""
    return ferry.streams()


def sample(server, choices, most=SAMPLE):
    """At most `most` of the choices, spread evenly; the two versions get different ones."""
    step = max(1, len(choices) // most)
    return choices[(step // 2 if V5 in server._versions else 0) :: step][:most]


def where(streams, kind):
    """The exec streams and the places in them that can suffer this kind of fault."""
    for stream in streams:
        data = stream.input if kind in INPUT else stream.output
        if data:
            yield from ((stream, at) for at in spots(data, 5))


@pytest.mark.parametrize("kind", [*OUTPUT, *INPUT])
def test_a_stream_that_breaks_once(server, ferry, streams, kind):
    found = [
        (stream, ferry.suffer(stream.fault(kind, after=at)))
        for stream, at in sample(server, list(where(streams, kind)))
    ]
    assert any(ending for _stream, ending in found), "no fault came to pass"
    assert all(ending in {WHOLE, NAMED, REFUSED, None} for _stream, ending in found)


@pytest.mark.parametrize("kind", STATUS)
def test_a_status_that_does_not_arrive(server, ferry, streams, kind):
    endings = [ferry.suffer(stream.fault(kind)) for stream in sample(server, streams)]
    assert any(endings), "no fault came to pass"
    assert set(endings) <= {WHOLE, REFUSED, None}


@pytest.mark.parametrize("kind", ["cut", "truncate", "cut-input", "lose-input"])
def test_a_cut_at_the_boundaries_of_the_contents(server, ferry, streams, kind):
    """Between the members of an archive, inside a header, inside a file, and after the last byte."""
    carrying = [s for s in streams if s.brings_content and (s.input if kind in INPUT else s.output)]
    cases = [(s, at) for s in carrying for at in spots(s.input if kind in INPUT else s.output, 24)]
    for stream, at in sample(server, cases, 3):
        assert ferry.suffer(stream.fault(kind, after=at)) in ({WHOLE, None} if at else {WHOLE, REFUSED, None})


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_harmless_is_not_noticed(server, ferry, streams, kind):
    for stream in sample(server, streams, 1):
        assert ferry.suffer(stream.fault(kind, **HARMLESS[kind])) == WHOLE


def test_all_streams_are_noisy(ferry):
    """Each exec of the whole copy, in both pods."""
    assert ferry.suffer(Fault("noise", after=100, message="tar: noise\n", times=ALWAYS)) == WHOLE
    assert ferry.suffer(Fault("banner", message="Welcome!\n\0", times=ALWAYS)) == WHOLE


def test_foreign_bytes_among_the_contents(ferry, streams):
    for stream in streams:
        if stream.brings_content and stream.output:
            for at in spots(stream.output, 3)[1:-1]:
                assert ferry.suffer(stream.fault("interject", after=at, message="a warning\n")) in {
                    WHOLE,
                    None,
                }


@pytest.mark.parametrize("kind", ["garble", "garble-input"])
def test_a_byte_that_changes_on_its_way(ferry, streams, kind):
    """The sizes are all right, so only a digest can tell."""
    for stream in streams:
        data = stream.input if kind in ANY_INPUT else stream.output
        at = data.find(CONTENTS["big"][:1000])
        if at >= 0:
            assert ferry.suffer(stream.fault(kind, after=at + 500)) == WHOLE


@pytest.mark.parametrize("kind", ["stall", "stall-input", "silent", "hang-up"])
def test_a_server_that_falls_silent(server, ferry, streams, kind):
    cases = [s for s in streams if (s.input if kind == "stall-input" else True)]
    for stream in sample(server, cases, 1):
        after = len(stream.input if kind == "stall-input" else stream.output) // 2
        assert ferry.suffer(stream.fault(kind, after=after)) in {WHOLE, REFUSED, None}


@pytest.mark.parametrize("code", [403, 404, 409, 429, 500, 503])
def test_an_exec_that_is_refused_once(server, ferry, streams, code):
    for stream in sample(server, streams[code % 3 :], 1):
        ending = ferry.suffer(stream.fault("refuse", code=code))
        assert ending in ({WHOLE, REFUSED} if code in (429, 500, 503) else {REFUSED, NAMED, WHOLE})


def test_a_container_that_is_restarted_in_mid_copy(server, ferry, streams):
    """Its pod stays Running, and the next two execs find no container."""
    carrying = next(s for s in streams if s.brings_content)
    begun = [
        stream for stream in streams if stream.command != streams[0].command
    ]  # the pod's tools are known
    for stream in (*sample(server, begun), carrying):
        away = Fault("error", message='container not found ("main")', times=2, pod=stream.pod)
        assert ferry.suffer(replace(away, match=stream.command, skip=stream.number)) == WHOLE
    assert ferry.suffer(carrying.fault("error", message="container not found", times=ALWAYS)) in {
        REFUSED,
        NAMED,
    }
    assert "Not known to be done: " in str(ferry.last)


def test_a_token_that_expires_in_mid_copy(server, ferry, streams):
    """From the n-th exec on the server says 401, whichever pod is meant."""
    for number in sample(server, list(range(len(streams))), 3):
        expired = Fault("refuse", code=401, message="Unauthorized", times=ALWAYS, skip=number)
        assert ferry.suffer(expired) in {REFUSED, NAMED}


@pytest.mark.parametrize("kind", ["cut", "truncate", "reset", "no-status", "refuse"])
def test_a_fault_that_does_not_pass(server, ferry, streams, kind):
    """Every attempt fails, so that the copy must as well, and the next one without fault completes."""
    carrying = next(s for s in streams if s.brings_content)
    fault = Fault(
        kind,
        after=600,
        code=503,
        match=carrying.command,
        pod=carrying.pod,
        skip=carrying.number,
        times=ALWAYS,
    )
    if not carrying.output[600:] and kind != "refuse":
        fault = Fault("lose-input", after=600, match=carrying.command, pod=carrying.pod, times=ALWAYS)
    assert ferry.suffer(fault, retries=1) in {REFUSED, NAMED}
    ferry._server.behave()
    assert ferry.judge(ferry.copy()) == WHOLE


@pytest.fixture
def sluggish(server, tmp_path):
    """Both pods take half a second before they digest anything."""
    box = Box(str(tmp_path / "slow"), "gnu", without=["sha256sum"])
    tool = tmp_path / "slow" / "sha256sum"
    tool.write_text('#!/bin/sh\nsleep 0.5\nexec /usr/bin/sha256sum "$@"\n')
    tool.chmod(0o755)
    before, server.environment = server.environment, {"PATH": box.place}
    yield
    server.environment = before


def test_a_proxy_that_cuts_what_is_idle_is_kept_awake(ferry, sluggish):
    """Pings go out while nothing else does."""
    assert ferry.suffer(Fault("idle", after=350, times=ALWAYS)) is None
    assert ferry.judge(ferry.last) == WHOLE
    assert any(entry.pings >= 3 for entry in ferry._server.execs)


def test_a_proxy_that_cuts_sooner_than_the_next_ping(ferry, sluggish, monkeypatch):
    monkeypatch.setattr(_exec, "Limits", lambda: _exec_stream.Limits(connect=1.0, ping=60.0, stall=60.0))
    assert ferry.suffer(Fault("idle", after=200, times=ALWAYS), retries=1) in {NAMED, REFUSED}


def test_two_faults_in_one_copy(server, ferry, streams):
    """The second attempt meets another fault."""
    carrying = next(s for s in streams if s.brings_content)
    kinds = [("cut-input", "lose-input") if not carrying.output[600:] else ("reset", "truncate")]
    for first, second in itertools.chain(kinds, [pair[::-1] for pair in kinds]):
        faults = (carrying.fault(first, after=700), carrying.fault(second, after=30_000))
        assert ferry.suffer(*faults) == WHOLE
