# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod that lies: whatever it sends, nothing is written outside the target; it ends in an error or in a report."""

from __future__ import annotations

import itertools
import os
import resource

import engine
import pytest
import trees
from trees import snapshot, touched, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy, _shell_reading
from ansible_collections.kubeferry.pvc.plugins.module_utils import _scripts as scripts
from ansible_collections.kubeferry.pvc.plugins.module_utils import _tar as tar
from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import BLOCK, DIR, FILE, SYMLINK, Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    EndpointError,
    KubeferryError,
    ProtocolError,
    ToolMissing,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import Selection
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree

WORDS = b"1970-01-01 00:00:00.000000000 +0000"


def line(start, mtime=b"0"):
    """A line of stat: `start` goes from the mode to the device's minor number."""
    return b"%b 8 512 0 %b|%b|%b\n" % (start, mtime, WORDS, WORDS)


FILE_LINE = line(b"81a4 5 0 0 1 77 1 0 0")
DIR_LINE = line(b"41ed 0 0 0 1 78 1 0 0")
LINK_LINE = line(b"a1ff 4 0 0 1 79 1 0 0")
CONTENT = b"evil!"


class Liar:
    """A runner that answers some scripts with what it likes, and leaves the others to a box."""

    def __init__(self, box, **answers):
        self.where = "pod bad/liar"
        self._box = box.runner()
        self._answers = {getattr(scripts, name): answer for name, answer in answers.items()}

    def start(self, argv, stdin=None, stdin_size=None):
        answer = self._answers.get(argv[2])
        if answer is None:
            return self._box.start(argv, stdin, stdin_size)
        mark = argv[5].encode()
        return Said(mark + b"\n" + answer(mark) if callable(answer) else mark + b"\n" + answer)


class Said:
    """A process that has said all it has to say."""

    def __init__(self, data):
        self._pieces = [data[place : place + 700] for place in range(0, len(data), 700)]

    def read(self):
        return self._pieces.pop(0) if self._pieces else b""

    def wait(self):
        return 0

    def stderr(self):
        return b""

    def close(self):
        pass


STATUSES = b"head 0\nfind 0\nxargs 0\nrows 0\ngather 0\0"


def scan(*named):
    """What a scan prints for (name, line of stat) pairs."""
    names = b"".join(name + b"\0" for name, _line in named)
    return (
        b"0|"
        + WORDS
        + b"\0"
        + b"%d\0" % len(named)
        + names
        + b"\0"
        + b"".join(line for _name, line in named)
        + b"\0\0end\0"
        + STATUSES
    )


def archive(*members):
    """What a pull prints for (entry, content) pairs."""

    def answer(mark):
        parts = [tar.header(e, e.path, len(data)) + data + tar.padding(len(data)) for e, data in members]
        return b"".join(parts) + tar.end() + mark + b"\n"

    return answer


def entry(path, kind=FILE, **rest):
    return Entry(path, kind, 0, **{"mode": 0o644, "uid": 0, "gid": 0, "mtime": 0, **rest})


class Jail:
    """A target in a directory of which nothing else may change, and a source that the liar speaks for."""

    def __init__(self, boxes, place):
        self.boxes = boxes
        self.place = place / "jail"
        self.target, self.source = self.place / "target", place / "source"
        self.outside = self.place / "outside"
        for path in (self.target, self.source, self.outside):
            path.mkdir(parents=True)
        write(self.outside, "precious", b"precious")
        write(self.source, "good", CONTENT, mtime=0)

    def line(self):
        """The line of stat for the file that is really there."""
        return line(b"81a4 5 0 0 1 %d 1 0 0" % os.stat(self.source / "good").st_ino)

    def liar(self, **answers):
        return ShellTree(Liar(self.boxes["gnu"], **answers), str(self.source), engine.progress())

    def targets(self):
        return {
            "local": lambda: engine.local(self.target),
            "gnu": lambda: engine.shell(self.boxes["gnu"], self.target),
            "busybox": lambda: engine.shell(self.boxes["busybox"], self.target),
            "staged": lambda: engine.staged(self.target, self.place.parent / "m.jsonl", as_source=False),
        }

    def copy(self, kind, **answers):
        """Copy from the liar. Returns the outcome or the error; fails when anything outside the target changed."""
        before = touched(self.outside), set(os.listdir(self.place)), os.listdir("/")
        try:
            return engine.copy(self.liar(**answers), self.targets()[kind](), retries=1)
        except KubeferryError as exc:
            return exc
        finally:
            assert (touched(self.outside), set(os.listdir(self.place)), os.listdir("/")) == before


@pytest.fixture
def jail(boxes, tmp_path, monkeypatch):
    monkeypatch.setattr(_copy, "BACKOFF_SECONDS", 0.01)
    return Jail(boxes, tmp_path)


KINDS = pytest.mark.parametrize("kind", ["local", "gnu", "busybox", "staged"])
NAMES = [
    *(
        b"./../outside/evil",
        b"../outside/evil",
        b"./../../../../../../tmp/evil",
        b"/evil",
        b"//evil",
        b"./a/../../outside/evil",
    ),
    *(b"..", b"./..", b"", b"./a//b", b"./a/./b", b"./a/", b"./.", b"./../target/../outside/evil"),
]


@KINDS
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names_that_lead_out_of_the_tree_are_refused(jail, kind, name):
    path = name.removeprefix(b"./")
    error = jail.copy(
        kind, SCAN=scan((name, FILE_LINE)), PULL=archive((entry(name), CONTENT), (entry(path), CONTENT))
    )
    assert isinstance(error, ProtocolError)
    assert "source in pod bad/liar" in str(error)
    assert set(snapshot(jail.target)) == {b"."}


@KINDS
def test_something_below_a_link_is_refused(jail, kind):
    named = [(b"./l", LINK_LINE), (b"./l/evil", FILE_LINE)]
    error = jail.copy(
        kind,
        SCAN=scan(*named),
        LINKS=b"./l\0" + os.fsencode(jail.outside) + b"\0end\0",
        PULL=archive((entry(b"./l/evil"), CONTENT)),
    )
    assert isinstance(error, ProtocolError)
    assert "l/evil can't lie in a symlink" in str(error)


@KINDS
def test_members_that_were_not_asked_for_are_passed_over(jail, kind):
    evil = [
        (entry(b"../outside/evil"), CONTENT),
        (entry(b"/evil"), CONTENT),
        (entry(b"./.kubeferry/lock"), CONTENT),
        (entry(b"./good", SYMLINK, link=b"../outside/precious"), b""),
        (entry(b"./good", BLOCK, device=(7, 0)), b""),
        (entry(b"./good", DIR), b""),
        (entry(b"./other"), CONTENT),
        (entry(b"./good"), CONTENT),
        (entry(b"./good"), b"again"),
    ]
    outcome = jail.copy(kind, SCAN=scan((b"./good", jail.line())), PULL=archive(*evil))
    assert engine.whole(outcome)
    assert set(snapshot(jail.target)) == {b".", b"good"}
    assert (jail.target / "good").read_bytes() == CONTENT


@KINDS
def test_only_what_was_listed_is_taken(jail, kind):
    write(jail.source, "unasked", CONTENT)
    tree = jail.liar(SCAN=scan((b"./good", jail.line()), (b"./unasked", FILE_LINE)))
    assert engine.whole(engine.copy(tree, jail.targets()[kind](), files=["good"]))
    assert set(snapshot(jail.target)) == {b".", b"good"}


@KINDS
@pytest.mark.parametrize("content", [b"", b"evi", b"longer" * 1000], ids=["nothing", "less", "more"])
def test_a_file_of_another_size_than_was_told_is_no_copy(jail, kind, content):
    outcome = jail.copy(kind, SCAN=scan((b"./good", jail.line())), PULL=archive((entry(b"./good"), content)))
    assert outcome.parity.missing == ["good"]
    assert set(snapshot(jail.target)) == {b"."}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\n",
        line(b"81a4 -5 0 0 1 77 1 0 0"),
        line(b"81a4 99999999999999999999999 0 0 1 77 1 0 0"),
        line(b"81a4 5 4294967295 0 1 77 1 0 0"),
        line(b"81a4 5 0 -1 1 77 1 0 0"),
        line(b"81a4 5 0 0 1 77 1 0 0", b"9" * 32),
        line(b"81a4 5 0 0 1 77 1 0 0", b"1e9"),
        line(b"zzzz 5 0 0 1 77 1 0 0"),
        line(b"01a4 5 0 0 1 77 1 0 0"),
        line(b"21b6 0 0 0 1 77 1 ffffffffff 0"),
        line(b"81a4 " + b"9" * 6000 + b" 0 0 1 77 1 0 0"),
        FILE_LINE * 2,
    ],
    ids=lambda said: repr(said[:40]),
)
def test_lines_that_no_stat_prints(jail, said):
    error = jail.copy("local", SCAN=scan((b"./good", said)), LOOK=scan((b"./good", said)))
    assert isinstance(error, KubeferryError)
    assert "source in pod bad/liar" in str(error)


@pytest.mark.parametrize(
    "said",
    [
        b"9" * 5000 + b"\0",
        b"-1\0",
        b"999999999\0./a\0\0",
        b"1000000000000\0",
        b"1\0" + b"x" * 200_000,
        b"2\0./a\0\0",
        b"\0\0\0",
        b"1\0./good\0\0" + b"y" * (1 << 25),
        b"\xff\xfe\0",
        b"",
    ],
    ids=lambda said: repr(said[:20]),
)
@pytest.mark.parametrize("script", ["SCAN", "DIGEST", "LINKS", "XATTRS"])
def test_lists_that_never_end_or_make_no_sense(jail, script, said):
    write(jail.target, "good", b"other", mtime=0)
    os.symlink("x", jail.source / "link")
    error = jail.copy("local", **{script: said})
    if not isinstance(error, KubeferryError):
        assert (jail.target / "good").read_bytes() == CONTENT
        assert not engine.whole(error)
    else:
        assert "source in pod bad/liar" in str(error)


class Endless:
    """A process that never stops talking."""

    def __init__(self, start, again):
        self._pieces = itertools.chain([start], itertools.repeat(again))

    def read(self):
        return next(self._pieces)

    def wait(self):
        return 0

    def stderr(self):
        return b""

    def close(self):
        pass


BATCH = 500
BEGUN = b"0|" + WORDS + b"\0"
ONE = BEGUN + b"1\0./good\0\0" + FILE_LINE + b"\0"
ENDLESS = {
    "PROBE": (b"", b"x" * 700),
    "SCAN": (
        BEGUN,
        b"%d\0" % BATCH
        + b"".join(b"./%d\0" % number for number in range(BATCH))
        + b"\0"
        + FILE_LINE * BATCH
        + b"\0\0",
    ),
    "SCAN of a batch": (BEGUN + b"9999999\0", b"aa\0" * BATCH),
    "SCAN of what has gone": (BEGUN, b"%d\0" % BATCH + b"./gone\0" * BATCH + b"\0" + b"\0\0"),
    "SCAN of what can't be read": (ONE, b"./good\0" * BATCH),
    "SCAN of what isn't there": (ONE, b"./" + b"n" * 60_000 + b"\0"),
    "DIGEST": (b"", b"1\0./good\0\0" + b"0" * 64 + b"  ./good\n\0"),
    "LINKS": (b"", b"./link\0x\0"),
    "XATTRS": (b"", b"# file: ./good\nuser.a=0x00\n\n"),
    "XATTRS of one file": (b"# file: ./good\n", b"user.a=0x00\n"),
    "XATTRS of empty lines": (b"# file: ./good\n", b"\n" * 700),
    "PULL": (b"", tar.header(Entry(b"x", FILE, 0, 0o644, 0, 0, 0), b"./x", 0)),
    "PULL of zeros": (b"", tar.end()),
    "PULL of long names": (b"", tar.header(Entry(b"x", FILE, 0, 0o644, 0, 0, 0), b"n" * 300, 0)[:-512]),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_takes_no_memory(jail, what, monkeypatch):
    """A process that would take 40 MiB more ends the test."""
    start, again = ENDLESS[what]
    script = what.partition(" ")[0]
    monkeypatch.setattr(_shell_reading, "MOST_NAMES", 200_000 if "gone" in what else 20_000)
    monkeypatch.setattr(_shell_reading, "MOST_KEPT", 4 << 20, raising=False)
    write(jail.target, "good", b"other", mtime=0)
    write(jail.source, "new", b"new")
    os.symlink("x", jail.source / "link")
    constant = getattr(scripts, script)
    answered = Liar.start

    def begin(self, argv, stdin=None, stdin_size=None):
        if argv[2] == constant:
            return Endless(argv[5].encode() + b"\n" + start, again)
        return answered(self, argv, stdin, stdin_size)

    monkeypatch.setattr(Liar, "start", begin)

    def grown():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        error = jail.copy("local")
        return str(error), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    said, kibibytes = engine.in_child(grown)
    assert "source in pod bad/liar" in said
    assert kibibytes < 40 << 10


@pytest.mark.parametrize("said", [b"find: ", b"", b"find: './"])
def test_an_endless_message_takes_no_memory(jail, monkeypatch, said):
    message = said + b"x" * ((4 << 20) - 100) + b"'\n"
    monkeypatch.setattr(Said, "stderr", lambda _self: message)

    def grown():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        error = jail.copy("local", SCAN=scan((b"./good", jail.line())).replace(b"find 0", b"find 1"))
        return str(error), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    told, kibibytes = engine.in_child(grown)
    assert "source in pod bad/liar can't be read whole: find" in told
    assert len(told) < 3_000
    assert kibibytes < 40 << 10


def test_names_that_can_not_be_read_are_bounded_by_what_they_take(jail, monkeypatch):
    monkeypatch.setattr(_shell_reading, "MOST_KEPT", 10_000)
    names = [b"./%03d" % number + b"n" * 200 for number in range(100)]
    told = scan(*((name, FILE_LINE) for name in names)).replace(
        b"\0\0end", b"\0%b\0\0end" % b"\0".join(names)
    )
    error = jail.copy("local", SCAN=told)
    assert "unreadable ones: copy it in parts" in str(error)


FACTS = (
    b"kind=dir\nreadable=1\nwritable=1\n"
    + b"".join(b"tool=%b\n" % tool.encode() for tool in scripts.TOOLS)
    + b"uid=0\nend=1\n"
)


@pytest.mark.parametrize(
    "said",
    [
        *(b"uid=" + uid for uid in (b"root", b"-1", b"9" * 5000, "\u0661".encode())),
        *(b"inode=" + inode for inode in (b"x:1", b"1", b"-1:5", b"1:" + b"9" * 5000)),
        *(b"boot=" + boot for boot in (b"a:b", b"b" * 65)),
        *(b"above=" + above for above in (b"1:x", b"1:2 3")),
    ],
    ids=lambda said: repr(said[:20]),
)
def test_facts_that_can_not_be(jail, said):
    with pytest.raises(
        ProtocolError, match="source in pod bad/liar answered the first question with"
    ) as error:
        jail.liar(PROBE=FACTS + said + b"\n").facts()
    assert len(str(error.value)) < 400


def test_room_that_can_not_be_is_not_known(jail):
    line = b"bytes=/dev/sda 1 1 " + b"9" * 5000 + b" 1% /mnt\n"
    assert jail.liar(PROBE=FACTS + line).facts().free_bytes is None


def test_a_received_file_of_a_size_that_can_not_be(jail):
    tree = jail.liar(ADOPT=b"./good\0" + b"9" * 5000 + b"\0end\0")
    tree.begin()
    assert tree.adopt([b"good"]) == {}
    tree.close()


@pytest.mark.parametrize("kind", ["local", "gnu"])
def test_sizes_that_no_volume_has(jail, kind):
    """More than SQLite adds up."""
    huge = b"81a4 %d 0 0 1 %d 1 0 0 %d 512 0 0|%b|%b\n"
    lines = [huge % ((1 << 63) - 1, inode, 1 << 54, WORDS, WORDS) for inode in (77, 78)]
    error = jail.copy(kind, SCAN=scan((b"./good", lines[0]), (b"./more", lines[1])))
    assert isinstance(error, EndpointError)
    assert "bytes free and the copy needs 18446744073709551614: make room" in str(error)


def test_a_huge_member_that_was_not_asked_for(jail):
    header = header_of(b"./other", 1 << 62)
    error = jail.copy("local", SCAN=scan((b"./good", jail.line())), PULL=header + bytes(5000))
    assert isinstance(error, ProtocolError)
    assert f"{1 << 62} bytes came that were not asked for" in str(error)


def test_a_path_that_no_kernel_takes(jail):
    error = jail.copy("local", SCAN=scan((b"./" + b"n" * 5_000, FILE_LINE)))
    assert isinstance(error, ProtocolError)
    assert "a longer path than the kernel takes" in str(error)


@KINDS
def test_a_file_that_is_said_to_be_endless(jail, kind):
    """The header promises 8 EiB: neither the target nor the time of this process is given to it."""
    sizes = [header_of(b"./good", size) for size in (1 << 40, (1 << 62))]
    for header in sizes:
        error = jail.copy(kind, SCAN=scan((b"./good", jail.line())), PULL=header + bytes(5000))
        assert isinstance(error, KubeferryError)
        assert "has grown to" in str(error)
        assert set(snapshot(jail.target, skip={b".kubeferry"})) <= {b"."}


def header_of(path, size):
    return tar.header(Entry(path, FILE, size, 0o644, 0, 0, 0), path, size)


def test_a_link_that_was_not_asked_for(jail):
    os.symlink("x", jail.source / "link")
    error = jail.copy("local", LINKS=b"./other\0/etc\0end\0")
    assert isinstance(error, ProtocolError)
    assert "a link came that was not asked for" in str(error)


def test_digests_of_other_files_prove_nothing(jail):
    """The target's file differs; the pod says that the digest is the same, or that of another name."""
    write(jail.target, "good", b"other", mtime=0)
    for said in (b"./bad", b"./good\n"):
        line = b"0" * 64 + b"  " + said + b"\n"
        looks = b"%d 0|x|./good\n\0" % os.stat(jail.source / "good").st_ino
        outcome = jail.copy("local", DIGEST=b"1\0./good\0\0" + looks + line + b"\0" + looks + b"end\0")
        if not isinstance(outcome, KubeferryError):
            assert outcome.parity.mismatched == {"good": ["content"]}


def test_a_name_that_leads_to_another_file_before_or_after_its_digest_is_taken(boxes, tmp_path):
    """The directory is replaced as soon as the tool has read it; the file beside it is changed, and stays."""
    write(tmp_path / "source", "d/file", b"content")
    write(tmp_path / "source", "d/new\nline", b"content")
    write(tmp_path / "source", "log", b"content")
    write(tmp_path / "other", "file", b"another")
    box = type(boxes["gnu"])(str(tmp_path / "box"), "gnu", without=["sha256sum"])
    meddling = f"cd {tmp_path}\nmv source/d kept\nmv other source/d\necho >>source/log\n"
    with open(os.path.join(box.place, "sha256sum"), "w", encoding="utf-8") as script:
        script.write(f'#!/bin/sh\n/usr/bin/sha256sum "$@"\n{meddling}')
    os.chmod(os.path.join(box.place, "sha256sum"), 0o755)
    tree = engine.shell(box, tmp_path / "source")
    names = [b"d/file", b"d/new\nline", b"log"]
    assert [taken.path for taken in tree.digests(names, "sha256")] == [b"log"]


# -- boxes that lack something --------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["stat", "cat", "find", "tar", "xargs", "readlink", "mv", "touch"])
def test_a_missing_tool_is_named(boxes, tmp_path, tool):
    box = type(boxes["gnu"])(str(tmp_path / "box"), "gnu", without=[tool])
    (tmp_path / "source").mkdir()
    with pytest.raises(ToolMissing) as caught:
        engine.shell(box, tmp_path / "source", "pod ns/bare").facts()
    assert str(caught.value) == (
        f"pod ns/bare lacks {tool}: use a container that has them, or name the claim with pvc instead of a pod, "
        "and a helper pod is made."
    )


def test_a_missing_digest_tool_names_those_that_are_there(boxes, tmp_path):
    box = type(boxes["gnu"])(str(tmp_path / "box"), "gnu", without=["sha256sum"])
    write(tmp_path / "source", "file", b"x")
    tree = engine.shell(box, tmp_path / "source", "pod ns/bare")
    with pytest.raises(
        ToolMissing, match=r"^pod ns/bare has no sha256sum: set checksum to one of md5, sha1, sha512\.$"
    ):
        list(tree.digests([b"file"], "sha256"))
    assert [taken.digest for taken in tree.digests([b"file"], "md5")] == ["9dd4e461268c8034f5c8564e155c67a6"]


def test_openssl_and_the_sum_tools_agree_on_every_name(boxes, tmp_path):
    trees.plant(tmp_path / "source")
    openssl = type(boxes["gnu"])(str(tmp_path / "box"), "openssl")
    found = {}
    for box in (openssl, boxes["gnu"], boxes["busybox"]):
        tree = engine.shell(box, tmp_path / "source")
        files = list(tree.scan(Selection()).paths("kind = 'file' AND hardlink = x''"))
        found[box.kind] = {taken.path: taken.digest for taken in tree.digests(files, "sha256")}
        assert len(found[box.kind]) == len(files)
    assert found["openssl"] == found["gnu"] == found["busybox"]


def by_path(manifest):
    return {entry.path: entry for entry in manifest}


def test_a_scan_sees_what_a_system_call_sees(boxes, tmp_path):
    trees.plant(tmp_path / "source")
    ours = by_path(engine.local(tmp_path / "source").scan(Selection()))
    exact = by_path(engine.shell(boxes["gnu"], tmp_path / "source").scan(Selection()))
    assert exact == ours
    assert by_path(engine.shell(boxes["busybox"], tmp_path / "source").scan(Selection())) == ours
