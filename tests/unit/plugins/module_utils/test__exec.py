# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exec client against a server that runs real commands over real sockets, and misbehaves."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest
from execfaults import V4, V5, Fault
from execserver import ExecServer
from fakeapi import pod

from ansible_collections.kubeferry.pvc.plugins.module_utils import _exec, _exec_stream
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ClusterError,
    CommandNotFound,
    ConnectionLost,
    ContainerAway,
    ContainerNotFound,
    ExecError,
    Forbidden,
    HelperPodGone,
    Interrupted,
    NotFound,
    PodNotRunning,
    Stalled,
    Stuck,
    Throttled,
    Unauthorized,
    Unreachable,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._exec_stream import Limits
from ansible_collections.kubeferry.pvc.plugins.module_utils._runner import STDERR_LIMIT, output

DATA = random.Random(7).randbytes(3_000_000)


@pytest.fixture(params=[(V5, V4), (V4,)], ids=["v5", "v4"])
def server(request):
    with ExecServer(versions=request.param) as started:
        yield started


@pytest.fixture
def runner(server):
    return server.cluster().runner("ns", "pod", "main", Limits(connect=5, ping=0.2, stall=2))


def test_output_errors_and_status(runner):
    assert output(runner, ["sh", "-c", "printf out; printf err >&2; exit 7"]) == (7, b"out", b"err")


def test_large_output_is_complete(server, runner, tmp_path):
    (tmp_path / "data").write_bytes(DATA)
    assert output(runner, ["cat", str(tmp_path / "data")])[:2] == (0, DATA)


@pytest.mark.parametrize("known", [False, True], ids=["first exec", "later exec"])
def test_large_input_has_an_end_and_comes_back(server, runner, known):
    if known:
        output(runner, ["true"])
    # Both directions are full at once, the kernel's buffers too: only a client that sends and receives in turn
    # comes through.
    data = DATA * 12
    assert output(runner, ["cat"], stdin=data)[:2] == (0, data)
    assert server.execs[-1].received == len(data)
    # v5 can tell the end; otherwise the input is bounded by a count.
    assert (server.execs[-1].argv == ["cat"]) == (known and server.execs[-1].protocol == V5)


def test_empty_input_ends_at_once(runner):
    assert output(runner, ["wc", "-c"], stdin=b"")[:2] == (0, b"0\n")
    assert output(runner, ["wc", "-c"], stdin=b"")[:2] == (0, b"0\n")


def test_input_is_taken_piece_by_piece_while_output_comes(runner):
    seen = []

    def pieces():
        for number in range(3):
            seen.append(number)
            yield b""
            yield b"%d\n" % number

    process = runner.start(["cat"], stdin=pieces(), stdin_size=6)
    data = b""
    while piece := process.read():
        data += piece
    assert (data, process.wait(), seen) == (b"0\n1\n2\n", 0, [0, 1, 2])


def test_input_from_a_descriptor_is_read_as_it_comes(server, runner):
    reading, writing = os.pipe()
    process = runner.start(["sh", "-c", "head -c 6"], stdin=reading)
    writer = threading.Thread(
        target=lambda: (os.write(writing, b"abc"), time.sleep(0.3), os.write(writing, b"def"))
    )
    writer.start()
    data = b""
    while piece := process.read():
        data += piece
    writer.join()
    assert (data, process.wait()) == (b"abcdef", 0)
    os.close(reading)
    os.close(writing)


def test_a_descriptor_closed_by_its_writer_ends_the_input_in_v5():
    with ExecServer() as server:
        reading, writing = os.pipe()
        os.write(writing, b"abc")
        os.close(writing)
        process = server.cluster().runner("ns", "pod").start(["cat"], stdin=reading)
        assert (process.read(), process.read(), process.wait()) == (b"abc", b"", 0)
        os.close(reading)


def test_a_command_that_ends_before_its_input(runner):
    for known in (False, True):
        assert output(runner, ["sh", "-c", "exec 0<&-; exit 3"], stdin=DATA)[0] == 3, known


def endless():
    while True:
        yield b"x" * 30_000


def test_a_status_survives_a_connection_that_is_reset_after_it(server, runner):
    server.inject(Fault("abrupt", times=3))
    for _number in range(3):
        process = runner.start(["sh", "-c", "exec 0<&-; exit 3"], stdin=endless(), stdin_size=1 << 40)
        assert process.wait() == 3


def test_after_the_status_no_more_input_is_asked_for(server, runner, monkeypatch):
    monkeypatch.setattr(_exec_stream, "_AFTER_STATUS", 0.5)
    server.inject(Fault("linger"))
    process = runner.start(["sh", "-c", "exec 0<&-; exit 3"], stdin=endless(), stdin_size=1 << 40)
    assert process.wait() == 3


def test_a_redirection_is_not_followed_with_the_token(server, runner):
    server.inject(Fault("redirect"))
    with pytest.raises(Unreachable, match=r"isn't a Kubernetes API server .HTTP status 302.: check"):
        output(runner, ["true"])
    assert len(server.execs) == 1


@pytest.mark.parametrize("size", [2, 4])
def test_input_of_another_size_than_announced(runner, size):
    process = runner.start(["cat"], stdin=[b"abc"], stdin_size=size)
    with pytest.raises(ExecError, match="announced"):
        process.wait()
    process.close()


def test_an_error_of_the_input_reaches_the_reader(runner):
    def pieces():
        yield b"abc"
        raise OSError(5, "disk")

    process = runner.start(["cat"], stdin=pieces(), stdin_size=10)
    with pytest.raises(OSError, match="disk"):
        process.wait()
    process.close()


def test_stderr_is_kept_to_its_end(runner):
    code, out, err = output(runner, ["sh", "-c", "seq 1 1000000 >&2; echo done"])
    assert (code, out) == (0, b"done\n")
    assert len(err) == STDERR_LIMIT
    assert err.endswith(b"999999\n1000000\n")


def test_noise_and_banner_stay_in_their_channels(server, runner):
    server.inject(Fault("noise", after=50, message="warning\n"), Fault("banner", message="Welcome\n"))
    assert output(runner, ["echo", "a"]) == (0, b"a\n", b"warning\n" * 50)
    assert output(runner, ["echo", "a"]) == (0, b"Welcome\na\n", b"")


@pytest.mark.parametrize("kind", ["cut", "cut-frame"])
@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_a_cut_stream_is_a_lost_connection(server, runner, tmp_path, kind, after):
    (tmp_path / "data").write_bytes(DATA)
    server.inject(Fault(kind, after=after))
    process = runner.start(["cat", str(tmp_path / "data")])
    got = []
    with pytest.raises(ConnectionLost, match=r"pod ns/pod, container main.*'cat'"):
        got.extend(iter(process.read, b""))
    got = b"".join(got)
    assert DATA.startswith(got)
    assert len(got) >= after
    with pytest.raises(ConnectionLost):
        process.wait()
    assert output(runner, ["echo", "again"])[:2] == (0, b"again\n")


def test_a_missing_status_is_never_success(server, runner):
    server.inject(Fault("no-status"))
    with pytest.raises(ConnectionLost, match="exit status"):
        output(runner, ["echo", "complete"])


def test_a_connection_cut_while_input_is_sent(server, runner):
    server.inject(Fault("cut-input", after=200_000))
    with pytest.raises(ConnectionLost):
        output(runner, ["sh", "-c", "cat > /dev/null"], stdin=DATA)


def test_a_status_of_success_with_missing_bytes_is_passed_on(server, runner):
    # kubernetes/kubernetes#124571: no client can see it. The engine's own end mark is there for that.
    server.inject(Fault("truncate", after=10))
    assert output(runner, ["printf", "0123456789abc"])[:2] == (0, b"0123456789")


def test_a_late_status_is_waited_for(server, runner):
    server.inject(Fault("slow-status", after=1000))
    assert output(runner, ["sh", "-c", "echo a; exit 4"])[:2] == (4, b"a\n")


def test_a_stalled_stream_is_given_up(server, runner):
    server.inject(Fault("stall", after=10))
    started = time.monotonic()
    with pytest.raises(Stalled, match="silent"):
        output(runner, ["printf", "0123456789abc"])
    assert 2 <= time.monotonic() - started < 4


def test_a_silent_command_is_kept_alive_by_pings(server, runner):
    # Twice the stall limit without a byte: only the pongs tell that somebody is there.
    assert output(runner, ["sleep", "4"])[0] == 0
    assert server.execs[-1].pings >= 10


@pytest.mark.parametrize("command", ["sleep 20", "yes >&2"])
def test_a_command_that_goes_on_after_its_deadline(runner, command):
    process = runner.start(["sh", "-c", f"echo word; {command}"])
    assert process.read() == b"word\n"
    process.deadline = time.monotonic() + 1
    with pytest.raises(
        Stuck, match=r"^nothing more was said for 1 s, so a tool hangs there, or the volume: "
    ):
        process.read()
    process.close()


# What kubelets say whose container runtime is being restarted; the second one's socket isn't made yet.
AWAY = (
    'unable to upgrade connection: rpc error: code = Unavailable desc = connection error: desc = "transport: Error '
    'while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused"'
)
NOT_YET = "error executing command in container: dial unix /var/run/crio/crio.sock: connect: no such file or directory"


@pytest.mark.parametrize(
    ("code", "message", "error", "words"),
    [
        (401, "Unauthorized", Unauthorized, "credentials"),
        (403, 'User "u" cannot create resource "pods/exec"', Forbidden, "pods/exec in namespace ns"),
        (404, 'pods "pod" not found', NotFound, "ns/pod doesn't exist"),
        (409, "conflict", ClusterError, "409"),
        (429, "too many requests", Throttled, "429"),
        (500, "etcd is away", Throttled, "500"),
        (503, "shutting down", Throttled, "503"),
        (400, "container main is not valid for pod pod", ContainerNotFound, "no container 'main'"),
        (400, "pod pod does not have a host assigned", PodNotRunning, "can't run"),
        (500, 'unable to upgrade connection: container not found ("main")', PodNotRunning, "can't run"),
        (500, "error dialing backend: dial tcp 10.0.0.1:10250: i/o timeout", Throttled, "node"),
        (500, AWAY, Throttled, "container runtime on the node of pod ns/pod"),
    ],
)
def test_refusals_at_the_handshake(server, runner, code, message, error, words):
    server.inject(Fault("refuse", code=code, message=message))
    with pytest.raises(error, match=words) as caught:
        output(runner, ["true"])
    assert "a-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ('Internal error occurred: container not found ("main")', ContainerAway),
        ("cannot exec in a stopped container: unknown", ContainerAway),
        ('exec failed: exec: "rsync": executable file not found in $PATH: unknown', CommandNotFound),
        ("error sending request: Post: dial tcp 10.0.0.1:10250: connect: connection refused", Throttled),
        (AWAY, Throttled),
        (NOT_YET, Throttled),
        ("error reading from error stream: unexpected EOF", ConnectionLost),
        ("something new", ExecError),
    ],
)
def test_refusals_on_the_error_channel(server, runner, message, error):
    server.inject(Fault("error", message=message))
    with pytest.raises(error) as caught:
        output(runner, ["rsync", "--version"])
    assert caught.type is error


def test_a_missing_program_is_named(runner):
    for argv, stdin in ((["no-such-program"], None), (["no-such-program"], b"abc")):
        with pytest.raises(CommandNotFound, match="'no-such-program' isn't installed in pod ns/pod"):
            output(runner, argv, stdin)


def test_the_status_of_a_program_that_fails_by_itself_is_kept(runner):
    assert output(runner, ["sh", "-c", "echo a: not found >&2; exit 127"])[0] == 127


def test_a_pod_that_cannot_run_is_described(server, runner):
    sick = server.api.find("pods", "ns", "pod")
    sick["status"] = {
        "phase": "Pending",
        "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
    }
    server.inject(Fault("error", message="container not found"))
    with pytest.raises(PodNotRunning, match=r"Pending.*ImagePullBackOff"):
        output(runner, ["true"])


def test_a_container_that_is_restarted_is_told_from_a_pod_that_does_not_run(server, runner):
    server.inject(Fault("error", message='container not found ("main")', times=2))
    with pytest.raises(ContainerAway) as caught:
        output(runner, ["true"])
    assert str(caught.value) == (
        "Pod ns/pod, container main can't run a command now: it is Running, its container isn't; wait until the "
        'container is running, or name another one, or another pod (the server says: container not found ("main")).'
    )
    server.api.find("pods", "ns", "pod")["status"]["phase"] = "Failed"
    with pytest.raises(PodNotRunning) as caught:
        output(runner, ["true"])
    assert not isinstance(caught.value, ContainerAway)


def test_a_command_that_dies_with_its_pod_is_told_from_one_that_is_killed(server, runner):
    assert output(runner, ["sh", "-c", "kill -9 $$"])[0] == 137
    server.api.find("pods", "ns", "pod")["metadata"]["deletionTimestamp"] = "now"
    with pytest.raises(PodNotRunning, match="went away while 'sh' ran: it is being deleted"):
        output(runner, ["sh", "-c", "kill -9 $$"])


@pytest.mark.parametrize("state", ["leaving", "gone", "ended", "ending"])
def test_a_helper_pod_that_is_removed_is_nobody_s_misspelling(server, state):
    name = "kubeferry-data-run1"
    item = server.api.add("pods", pod(name, container="helper"))
    runner, argv, said = server.cluster().runner("ns", name, "helper"), ["true"], ""
    if state == "leaving":
        argv, said = ["sh", "-c", "kill -9 $$"], " (it is being deleted)"
        item["metadata"]["deletionTimestamp"] = "now"
    elif state == "gone":
        server.api.remove("pods", item)
    elif state == "ending":
        item["metadata"]["deletionTimestamp"], said = "now", " (it is being deleted)"
        server.inject(Fault("error", message="error executing setns process: exit status 1: unknown"))
    else:
        item["status"]["phase"], said = "Failed", " (it is Failed)"
        server.inject(Fault("error", message="container not found"))
    with pytest.raises(HelperPodGone) as caught:
        output(runner, argv)
    assert str(caught.value) == (
        f"Helper pod ns/{name} was removed, or has ended, before the work was done{said}: see whether its node was "
        "drained, or who deletes pods there, and run again."
    )


def test_a_login_page_in_front_of_the_server(server, runner):
    server.inject(Fault("refuse", code=200, message="<html>"))
    with pytest.raises(
        Unreachable, match=r"isn't a Kubernetes API server .HTTP status 200.: check host, and whether a login"
    ):
        output(runner, ["true"])


def test_a_container_that_cannot_run_is_described_and_no_other(server):
    found = server.api.find("pods", "ns", "pod")
    found["spec"]["containers"].append({"name": "init"})
    found["status"] = {
        "phase": "Running",
        "initContainerStatuses": [
            {"name": "init", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}
        ],
        "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
    }
    server.inject(Fault("error", message="container not found"))
    with pytest.raises(PodNotRunning, match=r"it is Running, container init has ended \(Completed 0\); wait"):
        output(server.cluster().runner("ns", "pod", "init"), ["true"])


def test_wrong_pod_and_container(server):
    cluster = server.cluster()
    with pytest.raises(NotFound, match="ns/other"):
        output(cluster.runner("ns", "other"), ["true"])
    with pytest.raises(ContainerNotFound, match="'other'"):
        output(cluster.runner("ns", "pod", "other"), ["true"])


def test_a_server_that_hangs_up_at_the_handshake(server, runner):
    server.inject(Fault("hang-up"))
    with pytest.raises(ConnectionLost):
        output(runner, ["true"])


@pytest.mark.parametrize(
    ("raised", "error"), [(Interrupted("x"), Interrupted), (ValueError("s3cret"), Unreachable)]
)
def test_what_else_is_raised_while_a_connection_is_made(runner, monkeypatch, raised, error):
    def connect(*arguments, **options):
        raise raised

    monkeypatch.setattr(_exec.WebSocket, "connect", connect)
    with pytest.raises(error) as caught:
        output(runner, ["true"])
    assert "s3cret" not in str(caught.value)


def test_nobody_listens():
    with ExecServer() as server:
        runner = server.cluster().runner("ns", "pod")
    with pytest.raises(Unreachable, match="refuses connections"):
        output(runner, ["true"])


def test_an_upgrade_of_the_server_in_mid_run_is_noticed():
    with ExecServer(versions=(V5, V4)) as server:
        runner = server.cluster().runner("ns", "pod", "main")
        output(runner, ["true"])
        server._versions = (V4,)
        assert output(runner, ["cat"], stdin=b"abc")[:2] == (0, b"abc")
        assert [entry.protocol for entry in server.execs] == [V5, "", V4]


def test_output_alone_travels_in_v4_once_the_server_is_known():
    # It is the faster one; see _start_output.
    with ExecServer(versions=(V5, V4)) as server:
        runner = server.cluster().runner("ns", "pod", "main")
        for _number in range(2):
            assert output(runner, ["echo", "a"])[1] == b"a\n"
            assert output(runner, ["cat"], stdin=b"b")[1] == b"b"
        assert [entry.protocol for entry in server.execs] == [V5, V5, V4, V5]
        assert [entry.argv[0] for entry in server.execs] == ["echo", "cat", "echo", "cat"]


def test_a_server_without_v4():
    with ExecServer(versions=(V5,)) as server:
        runner = server.cluster().runner("ns", "pod", "main")
        for _number in range(3):
            assert output(runner, ["echo", "a"])[1] == b"a\n"
        assert [entry.protocol for entry in server.execs] == [V5, "", V5, V5]


def test_close_ends_the_stream_and_the_input(server, runner):
    process = runner.start(["sh", "-c", "echo a; cat"], stdin=iter([b""]), stdin_size=None)
    assert process.read() == b"a\n"
    process.close()
    process.close()
    assert server.execs[-1].ended.wait(5)
    with pytest.raises(ConnectionLost, match="closed on this side"):
        process.read()


def test_many_threads_share_one_cluster(server):
    server.api.add("pods", pod("other"))
    cluster = server.cluster()
    found = []

    def work(number: int) -> None:
        name = ("pod", "other")[number % 2]
        found.append(output(cluster.runner("ns", name), ["cat"], stdin=b"%d" % number)[1] == b"%d" % number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [True] * 16
