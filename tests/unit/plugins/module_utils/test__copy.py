# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies between real directories: over this machine's system calls, and over BusyBox's and GNU's tools as in a pod."""

from __future__ import annotations

import os
import random
import re
import socket

import engine
import pytest
import trees
from trees import BILLION, snapshot, touched, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError, UsageError

LOCAL = "local"
PAIRS = [
    *((LOCAL, LOCAL, "tar"), ("busybox", LOCAL, "tar"), (LOCAL, "busybox", "tar"), ("gnu", LOCAL, "tar")),
    *(
        (LOCAL, "gnu", "tar"),
        ("busybox", "busybox", "tar"),
        ("gnu", "busybox", "tar"),
        ("busybox", "gnu", "tar"),
    ),
    *(
        ("rsync", LOCAL, "rsync"),
        (LOCAL, "rsync", "rsync"),
        ("rsync", LOCAL, "auto"),
        (LOCAL, "rsync", "auto"),
    ),
]
FEW = [(LOCAL, LOCAL, "tar"), ("busybox", LOCAL, "tar"), (LOCAL, "busybox", "tar"), (LOCAL, "gnu", "tar")]
FEW += [("rsync", LOCAL, "rsync"), (LOCAL, "rsync", "auto")]


class Ends:
    """A source and a target of the given kinds in real directories, and copies from one to the other."""

    def __init__(self, boxes, place, kinds):
        self.boxes = boxes
        self.source_kind, self.target_kind, self.transport = kinds
        self.source, self.target = place / "source", place / "target"
        self.source.mkdir()
        self.target.mkdir()
        self.unit = 1 if kinds[1] == LOCAL or boxes[kinds[1]].exact else BILLION

    def tree(self, kind, path):
        return engine.end(self.boxes, kind, path)

    def copy(self, **options):
        source, target = self.tree(self.source_kind, self.source), self.tree(self.target_kind, self.target)
        return engine.copy(source, target, transport=self.transport, **options)

    def unlike(self, **options):
        return unlike(self.source, self.target, unit=self.unit, **options)


def kinds_of(pairs):
    return pytest.mark.parametrize("ends", pairs, ids="-".join, indirect=True)


@pytest.fixture
def ends(request, boxes, tmp_path):
    return Ends(boxes, tmp_path, request.param)


@kinds_of(PAIRS)
def test_every_kind_of_file_arrives(ends):
    trees.plant(ends.source)
    before, empty = touched(ends.source), touched(ends.target)

    planned = ends.copy(check=True)
    assert touched(ends.target) == empty
    assert len(list(planned.plan.changes())) > 150

    outcome = ends.copy()
    assert ends.unlike() == {}
    assert engine.whole(outcome)
    assert outcome.parity.matched == len(snapshot(ends.source))
    assert outcome.trouble == []
    assert touched(ends.source) == before

    there = touched(ends.target)
    second = ends.copy()
    assert (bool(second.plan), second.bytes_moved) == (False, 0)
    assert touched(ends.target) == there


@kinds_of(FEW)
def test_one_round_is_enough(ends, monkeypatch):
    """Also for the times of links and directories, which BusyBox's tar sets to that of the copy."""
    for name in ("a/b/c", "d"):
        write(ends.source, name, b"x", mtime=BILLION)
    os.link(ends.source / "d", ends.source / "a/e")
    os.symlink("d", ends.source / "link")
    os.symlink("d", ends.source / "a/link")
    os.mkfifo(ends.source / "a/pipe")
    for name in ("link", "a/link", "a/pipe", "a/b", "a", "."):
        os.utime(ends.source / name, ns=(BILLION, BILLION), follow_symlinks=False)
    executed = []
    execute = _copy.Copy._execute
    monkeypatch.setattr(_copy.Copy, "_execute", lambda *given: executed.append(1) or execute(*given))
    assert engine.whole(ends.copy())
    assert ends.unlike() == {}
    assert executed == [1]


@kinds_of(PAIRS)
def test_whatever_differs_is_repaired_and_nothing_else_is_touched(ends):
    trees.plant(ends.source)
    ends.copy()
    flip(ends.target / "sizes/300000", 150_000)
    (ends.target / "sizes/513").unlink()
    (ends.target / "sizes/512").write_bytes(b"shorter")
    (ends.target / "modes/0444").chmod(0o640)
    os.utime(ends.target / "many/007", ns=(5, 5))
    (ends.target / "links/dangling").unlink()
    os.symlink("elsewhere", ends.target / "links/dangling")
    (ends.target / "hard/two").unlink()
    (ends.target / "hard/two").write_bytes((ends.target / "hard/one").read_bytes())
    (ends.target / "modes/d3770").chmod(0o755)
    there = touched(ends.target)

    planned = ends.copy(check=True)
    assert touched(ends.target) == there
    outcome = ends.copy()
    assert ends.unlike() == {}
    assert engine.whole(outcome)
    changed = {change.path for change in outcome.plan.changes()}
    assert changed == {change.path for change in planned.plan.changes()}
    assert changed >= {
        b"sizes/300000",
        b"sizes/513",
        b"sizes/512",
        b"modes/0444",
        b"many/007",
        b"modes/d3770",
    }
    assert changed <= {
        *(b"sizes/300000", b"sizes/513", b"sizes/512", b"modes/0444", b"many/007", b"modes/d3770"),
        *(b"links/dangling", b"links", b"hard", b"hard/two", b"sizes"),
    }
    untouched = {b"names/plain", b"many/008", b"hard/one", b"sizes/sparse"}
    now = touched(ends.target)
    assert {path: now[path][1][0] for path in untouched} == {path: there[path][1][0] for path in untouched}


def flip(path, offset):
    """Another byte in the same place, at the same time as before."""
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 0x55]))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


@kinds_of(FEW)
def test_a_file_of_same_size_and_time_is_told_by_its_digest(ends):
    write(ends.source, "file", b"right", mtime=7 * BILLION)
    write(ends.target, "file", b"wrong", mtime=7 * BILLION)
    outcome = ends.copy()
    assert [(change.path, change.reasons) for change in outcome.plan.changes()][-1] == (b"file", ("content",))
    assert (ends.target / "file").read_bytes() == b"right"


def plant_conflicts(source, target):
    """Each kind in the place of each other one, with something inside the directories of the target."""
    kinds = {
        "file": lambda path: write(path, b".file", b"content") and os.rename(path / ".file", path / "x"),
        "dir": lambda path: (path / "x").mkdir(),
        "link": lambda path: os.symlink("/etc", path / "x"),
        "dirlink": lambda path: os.symlink("../real", path / "x"),
        "fifo": lambda path: os.mkfifo(path / "x"),
    }
    for want, make in kinds.items():
        for have, made in kinds.items():
            here, there = source / f"{want} for {have}", target / f"{want} for {have}"
            here.mkdir(parents=True)
            there.mkdir(parents=True)
            make(here)
            made(there)
            if want == "dir":
                write(here, "x/inside", b"inside")
                write(here, "x/y/z", b"deeper")


@kinds_of(FEW)
@pytest.mark.parametrize("delete", [False, True], ids=["keep", "delete"])
def test_things_of_another_kind_give_way(ends, delete):
    plant_conflicts(ends.source, ends.target)
    (ends.target / "real").mkdir()
    (ends.target / "real/bystander").write_bytes(b"stays")
    (ends.source / "real").mkdir()
    write(ends.source, "real/bystander", b"stays")
    outcome = ends.copy(delete=delete)
    assert ends.unlike() == {}
    assert engine.whole(outcome)


@kinds_of(FEW)
def test_a_directory_with_files_gives_way_only_when_asked(ends):
    write(ends.source, "x", b"a file")
    write(ends.source, "other", b"other")
    write(ends.target, "x/precious", b"precious")
    write(ends.target, "x/y/z", b"deeper")
    before = touched(ends.target)
    with pytest.raises(EndpointError, match="x/precious lies in a directory of the target"):
        ends.copy()
    assert touched(ends.target) == before
    assert engine.whole(ends.copy(delete=True))
    assert ends.unlike() == {}


@kinds_of(FEW)
def test_extra_files_stay_unless_delete_is_asked_for(ends):
    trees.plant(ends.source)
    ends.copy()
    trees.plant(ends.target / "more")
    (ends.target / "many/extra\nname").write_bytes(b"x")
    extra = snapshot(ends.target / "more")

    outcome = ends.copy()
    assert engine.whole(outcome)
    assert snapshot(ends.target / "more") == extra
    assert "more/names/new\\nline" in outcome.parity.extra

    outcome = ends.copy(delete=True)
    assert ends.unlike() == {}
    assert (engine.whole(outcome), outcome.parity.extra) == (True, [])


@kinds_of(FEW)
def test_delete_stays_within_the_selection(ends):
    for name in ("in/a", "in/b", "out/c", "top"):
        write(ends.source, name, b"source")
    for name in ("in/extra", "out/extra", "extra"):
        write(ends.target, name, b"extra")
    assert engine.whole(ends.copy(files=["in", "top"], delete=True))
    left = {path for path in snapshot(ends.target) if path.startswith((b"in", b"out", b"extra", b"top"))}
    assert left == {b"in", b"in/a", b"in/b", b"out", b"out/extra", b"extra", b"top"}


@kinds_of(FEW)
def test_other_names_of_a_file_keep_their_attributes(ends):
    for name in ("sel/a", "sel/b", "alone/c"):
        write(ends.source, name, b"same", mode=0o644)
    (ends.source / "sel/b2").hardlink_to(ends.source / "sel/b")
    for name in ("sel/a", "sel/b", "alone/c"):
        write(ends.target, name, b"same", mode=0o600)
    (ends.target / "sel/b2").hardlink_to(ends.target / "sel/b")
    (ends.target / "alone/kept").hardlink_to(ends.target / "sel/a")
    (ends.target / "sel/extra").hardlink_to(ends.target / "alone/c")
    before = snapshot(ends.target)
    checked = ends.copy(check=True)
    assert set(checked.parity.metadata) >= {"alone/c", "sel/a", "sel/b", "sel/b2"}
    assert checked.parity.mismatched == {}
    outcome = ends.copy()
    assert engine.whole(outcome)
    assert set(outcome.plan.paths("replace")) == set(checked.plan.paths("replace")) == {b"alone/c", b"sel/a"}
    after = snapshot(ends.target)
    for name in (b"alone/kept", b"sel/extra"):
        assert (
            (after[name].mode, after[name].content)
            == (before[name].mode, before[name].content)
            == (0o600, b"same")
        )
    assert {after[name].mode for name in (b"sel/a", b"sel/b", b"sel/b2", b"alone/c")} == {0o644}
    assert not ends.copy().plan


@kinds_of(FEW)
def test_a_socket_is_named_and_all_else_arrives(ends):
    write(ends.source, "a", b"before")
    write(ends.source, "z", b"after")
    with listening(ends.source / "service.sock"):
        outcome = ends.copy()
        assert ends.copy(metadata="report", delete=True).retries == 0
    assert outcome.parity.missing == []
    assert outcome.parity.metadata == {"service.sock": {"socket": ["there", "missing"]}}
    assert not engine.whole(outcome)
    assert engine.whole(outcome, "report")
    assert (ends.target / "a").read_bytes() + (ends.target / "z").read_bytes() == b"beforeafter"


@kinds_of(FEW)
@pytest.mark.parametrize("name", ["notes", ".notes"])
def test_a_work_directory_with_something_of_somebody_else_is_left_alone(ends, name):
    write(ends.source, "a", b"content")
    write(ends.target, f".kubeferry/{name}", b"precious")
    with pytest.raises(
        EndpointError, match=rf"has \.kubeferry/{re.escape(name)}, which is not of a copy: move it"
    ):
        ends.copy()
    assert (ends.target / ".kubeferry" / name).read_bytes() == b"precious"
    assert not (ends.target / "a").exists()


class listening:  # noqa: N801 (reads as a verb)
    """A unix socket at a path of any length."""

    def __init__(self, path):
        self._path = path

    def __enter__(self):
        self._socket = socket.socket(socket.AF_UNIX)
        back = os.getcwd()
        os.chdir(self._path.parent)
        try:
            self._socket.bind(self._path.name)
        finally:
            os.chdir(back)

    def __exit__(self, *_exception):
        self._socket.close()


@kinds_of(FEW)
def test_listed_files_arrive_with_their_directories(ends):
    trees.plant(ends.source)
    files = [
        "names/new\nline",
        "hard/two",
        os.fsdecode(b"names/\xff\xfe not utf-8"),
        "-rf/--help",
        "./modes/d2775",
    ]
    outcome = ends.copy(files=files)
    assert engine.whole(outcome)
    have = snapshot(ends.target)
    assert set(have) == {
        *(b".", b"names", b"names/new\nline", b"names/\xff\xfe not utf-8", b"hard", b"hard/two", b"-rf"),
        *(b"-rf/--help", b"modes", b"modes/d2775", b"modes/d2775/in it"),
    }
    want = snapshot(ends.source)
    for path in set(have) - {b"."}:
        assert (have[path].content, have[path].mode, have[path].uid) == (
            want[path].content,
            want[path].mode,
            want[path].uid,
        )
    assert not ends.copy(files=files).plan


@kinds_of(FEW)
def test_directories_above_listed_files_keep_their_own_attributes(ends):
    write(ends.source, "a/b/file", b"x")
    (ends.source / "a").chmod(0o711)
    (ends.target / "a").mkdir()
    (ends.target / "a").chmod(0o750)
    assert engine.whole(ends.copy(files=["a/b/file"]))
    assert snapshot(ends.target)[b"a"].mode == 0o750


@kinds_of(FEW)
def test_patterns_choose_what_is_copied_with_the_directories_that_it_needs(ends):
    for name in ("a/b/x.log", "a/b/x.txt", "c/y.log", "c/cache/z.log", "top.log"):
        write(ends.source, name, b"content")
    options = {"include": ["*.log"], "exclude": ["cache"]}
    outcome = ends.copy(**options)
    assert engine.whole(outcome)
    assert set(snapshot(ends.target)) == {
        *(b".", b"a", b"a/b", b"a/b/x.log", b"c", b"c/y.log", b"top.log"),
    }
    assert not ends.copy(**options).plan


@kinds_of(FEW)
def test_an_excluded_file_is_never_buried_or_displaced(ends):
    """What the patterns leave out keeps its directory, even where the source has a file of the directory's name."""
    write(ends.source, "x", b"a file")
    write(ends.target, "x/keep", b"precious")
    outcome = ends.copy(exclude=["keep"], retries=0, delete=True)
    assert outcome.parity.mismatched == {"x": ["type"]}
    assert set(snapshot(ends.target)) == {b".", b"x", b"x/keep"}


@kinds_of(FEW)
@pytest.mark.parametrize("checksum", ["md5", "sha1", "sha512"])
def test_other_digests_prove_as_well(ends, checksum):
    write(ends.source, "file", b"right", mtime=7 * BILLION)
    write(ends.target, "file", b"wrong", mtime=7 * BILLION)
    write(ends.source, "new", b"new")
    outcome = ends.copy(checksum=checksum)
    assert engine.whole(outcome)
    assert len(outcome.source.get(b"file").digest) == {"md5": 32, "sha1": 40, "sha512": 128}[checksum]
    assert ends.unlike() == {}


@kinds_of(PAIRS)
def test_a_large_file_of_which_a_part_changed(ends):
    data = random.Random(5).randbytes(3_000_000)
    write(ends.source, "big", data)
    ends.copy()
    write(ends.source, "big", data[:1_000_000] + b"inserted" + data[1_000_000:])
    outcome = ends.copy()
    assert engine.whole(outcome)
    assert ends.unlike() == {}
    if ends.transport == "tar":
        assert outcome.bytes_moved == len(data) + 8
    else:
        assert outcome.bytes_moved < 100_000


@kinds_of([(LOCAL, LOCAL, "tar"), ("busybox", LOCAL, "tar")])
def test_a_target_that_is_not_there_is_made(ends):
    write(ends.source, "a/b", b"content")
    ends.target = ends.target / "not" / "there yet"
    assert ends.copy(check=True).plan
    assert not ends.target.parent.exists()
    assert engine.whole(ends.copy())
    assert (ends.target / "a/b").read_bytes() == b"content"


@kinds_of(FEW)
def test_an_empty_tree_is_copied_too(ends):
    assert engine.whole(ends.copy())
    write(ends.target, "extra", b"x")
    assert engine.whole(ends.copy(delete=True))
    assert set(snapshot(ends.target)) == {b"."}


def test_rsync_is_refused_where_it_cannot_work(boxes, tmp_path):
    for kind in ("source", "target"):
        (tmp_path / kind).mkdir()
    ends = engine.local(tmp_path / "source"), engine.shell(boxes["busybox"], tmp_path / "target")
    with pytest.raises(
        UsageError, match=r"transport: rsync can't be used here, since rsync isn't installed at .*busybox"
    ):
        engine.copy(*ends, transport="rsync")


@pytest.mark.parametrize("kinds", FEW)
@pytest.mark.parametrize("mtime", [-BILLION, -1])
def test_the_second_before_1970(boxes, tmp_path, kinds, mtime):
    """BusyBox's touch takes it for a failure."""
    ends = Ends(boxes, tmp_path, kinds)
    os.symlink("a", ends.source / "link")
    for name, data in {"a": b"x", "kept": b"kept", "large": bytes(9 << 20) + b"z"}.items():
        write(ends.source, name, data)
    write(ends.target, "kept", b"kept")
    for name in ("link", "a", "kept", "large", "."):
        os.utime(ends.source / name, ns=(mtime, mtime), follow_symlinks=False)
    assert engine.whole(ends.copy())
    assert ends.unlike() == {}
