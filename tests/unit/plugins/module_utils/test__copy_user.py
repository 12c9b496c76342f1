# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies by an ordinary user, as in a helper pod with `pod_security: restricted`."""

from __future__ import annotations

import os
import shutil
import stat

import engine
import pytest
from engine import NOBODY, in_child
from toolbox import Box
from trees import BILLION, may_make_devices, snapshot, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import DIR, Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._tree import Changes


class Ends:
    """A source and a target of the user's own."""

    def __init__(self, place, kind):
        self.source, self.target = place / "source", place / "target"
        self._box = None if kind == "local" else Box(str(place / "box"), kind)
        self._unit = 1 if kind == "local" or self._box.exact else BILLION
        self.target.mkdir()

    def tree(self):
        """The target."""
        return engine.shell(self._box, self.target) if self._box else engine.local(self.target)

    def give(self, *, foreign=False):
        """All that is root's becomes the user's, but for a source that is to be `foreign`."""
        for root in (self.target,) if foreign else (self.source, self.target):
            for folder, folders, files in os.walk(root):
                for name in (folder, *(os.path.join(folder, each) for each in (*folders, *files))):
                    if os.geteuid() == 0 and os.lstat(name).st_uid == 0:
                        os.chown(name, NOBODY, NOBODY)

    def copy(self, *, foreign=False, **options):
        """What a copy by the user says."""
        self.give(foreign=foreign)
        return in_child(
            lambda: engine.copy(engine.local(self.source), self.tree(), retries=1, **options).parity,
            uid=NOBODY,
        )

    def unlike(self):
        return unlike(self.source, self.target, unit=self._unit)


@pytest.fixture(params=["local", "gnu", "busybox"])
def ends(request, place):
    return Ends(place, request.param)


def test_directories_have_their_modes(ends):
    for name, mode in {
        "a/b/c": 0o750,
        "a/b": 0o1711,
        "a": 0o555,
        "d/e": 0o500,
        "d": 0o2755,
        ".": 0o701,
    }.items():
        write(ends.source, f"{name}/file", b"x")
        os.chmod(ends.source / name, mode)
        os.utime(ends.source / name, ns=(BILLION, BILLION))
    assert ends.copy().holds("strict")
    assert ends.unlike() == {}


def test_what_lies_in_read_only_directories_is_kept_in_step(ends):
    for name in ("ro/sub/file", "ro/gone", "gone/ro/file", "becomes a file/ro/file"):
        write(ends.source, name, b"first", mtime=BILLION)
        os.chmod((ends.source / name).parent, 0o555)
    ends.copy(delete=True)
    for path in (ends.source / "gone", ends.source / "becomes a file"):
        shutil.rmtree(path)
    write(ends.source, "becomes a file", b"file")
    write(ends.source, "ro/new", b"new")
    write(ends.source, "ro/sub/file", b"again")
    (ends.source / "ro/gone").unlink()
    os.utime(ends.source / "ro", ns=(BILLION, BILLION))
    parity = ends.copy(delete=True)
    assert parity.holds("strict", extra_allowed=False)
    assert ends.unlike() == {}


def test_a_read_only_directory_above_what_is_selected_is_left_alone(ends):
    write(ends.source, "ro/new", b"new")
    (ends.target / "ro").mkdir()
    (ends.target / "ro").chmod(0o555)
    parity = ends.copy(files=["ro/new"])
    assert parity.missing == ["ro/new"]
    assert (ends.target / "ro").stat().st_mode & 0o777 == 0o555


def test_rsync_brings_files_into_read_only_directories(place):
    ends = Ends(place, "rsync")
    for content in (b"first" * 20_000, b"again" * 20_000, b"short"):
        for name in ("ro/sub/file", "rw/file"):
            (ends.source / name).unlink(missing_ok=True)
            write(ends.source, name, content, 0o444)
            os.chmod((ends.source / name).parent, 0o555 if name.startswith("ro") else 0o755)
        assert ends.copy(transport="rsync").holds("strict")
        assert ends.unlike() == {}


def test_what_a_dead_run_left_in_directories_that_are_shut_is_cleared(ends):
    write(ends.source, "file", b"x")
    for name, mode in {
        "run-dead/tree/ro/sub/file": 0o555,
        "run-old/tree/closed/file": 0,
        "run-old/a/b": 0,
    }.items():
        write(ends.target, f".kubeferry/{name}", b"left")
        os.chmod((ends.target / f".kubeferry/{name}").parent, mode)
    os.chmod(ends.target / ".kubeferry/run-dead/tree/ro", 0o500)
    assert ends.copy().holds("strict")
    assert ends.unlike() == {}


def test_a_part_that_is_read_only_is_taken_up(ends):
    content = bytes(range(256)) * (5 << 12)
    write(ends.source, "large", content)
    write(ends.target, ".kubeferry/run-dead/tree/large", content[: 9 << 19], 0o400)
    assert ends.copy().holds("strict")
    assert ends.unlike() == {}


def test_a_part_with_another_name_is_left_as_it_is(ends):
    content = bytes(range(256)) * (5 << 12)
    write(ends.source, "large", content)
    write(ends.target, "other", content[: 9 << 19], 0o400)
    (ends.target / ".kubeferry/run-dead/tree").mkdir(parents=True)
    os.link(ends.target / "other", ends.target / ".kubeferry/run-dead/tree/large")
    assert ends.copy().holds("strict")
    assert (ends.target / "large").read_bytes() == content
    other = snapshot(ends.target)[b"other"]
    assert (other.mode, other.content) == (0o400, content[: 9 << 19])


def test_a_directory_is_not_moved_with_what_should_be_discarded(ends):
    """As where another process shuts it meanwhile."""
    ends.give()
    directory = Entry(b"ro", DIR, 0, 0o555, NOBODY, NOBODY, BILLION)
    beside = Entry(b"beside", DIR, 0, 0o755, NOBODY, NOBODY, BILLION)

    def work():
        tree = ends.tree()
        tree.begin()
        place = next(ends.target.glob(".kubeferry/run-*/tree"))
        write(place, "ro/torn", b"torn")
        os.chmod(place / "ro", 0o555)
        tree.apply(Changes(discard=[b"ro/torn"], create=[directory]))
        os.chmod(place / "ro", 0o755)
        tree.apply(Changes(discard=[b"ro/torn", b"gone"], create=[beside]))
        there = sorted(os.listdir(ends.target))
        tree.close()
        return there

    assert in_child(work, uid=NOBODY) == [".kubeferry", "beside"]
    assert os.listdir(ends.target) == ["beside"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what its owner may not read")


@needs_root
def test_what_its_owner_may_not_read_is_readable_where_the_owner_proves_it(ends):
    for name, mode in {"write only": 0o244, "for others": 0o044, "shut/by its owner": 0o644}.items():
        write(ends.source, name, b"x" * 5_000_000, mode)
    os.chmod(ends.source / "shut", 0o055)
    for _run in range(2):
        parity = ends.copy(metadata="report", foreign=True)
        assert parity.holds("report")
        assert not parity.holds("strict")
        assert {path: differs["mode"] for path, differs in parity.metadata.items() if "mode" in differs} == {
            "write only": ["0244", "0644"],
            "for others": ["0044", "0444"],
            "shut": ["0055", "0555"],
        }
        os.chmod(ends.target / "for others", 0o044)
        os.chmod(ends.target / "shut", 0)
    assert set(os.listdir(ends.target)) == {"write only", "for others", "shut"}
    assert ends.copy(metadata="ignore", foreign=True).holds("ignore")


@needs_root
@pytest.mark.skipif(not may_make_devices(), reason="nobody may make devices here")
def test_devices_are_told_of_where_only_root_can_make_them(ends):
    write(ends.source, "with/file", b"x")
    os.mknod(ends.source / "with/null", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    for check in (True, False):
        parity = ends.copy(metadata="report", check=check)
        assert parity.metadata["with/null"] == {"device": ["there", "missing"]}
    assert parity.missing == []
    assert parity.holds("report")
    assert not parity.holds("strict")
    assert (ends.target / "with/file").read_bytes() == b"x"


@needs_root
@pytest.mark.parametrize("transport", ["tar", "rsync"])
def test_what_its_owner_may_not_read_is_staged(place, transport):
    """With all that its manifest tells of it."""
    source, staging, target = place / "source", place / "open/staging", place / "target"
    for name in ("none", "ro/none"):
        write(source, name, b"x" * 100, 0o044)
    os.chmod(source / "ro", 0o555)
    target.mkdir()
    staging.parent.mkdir()
    staging.parent.chmod(0o777)
    box, manifest = Box(str(place / "box"), "rsync"), place / "open/manifest"

    def work():
        tree = engine.staged(staging, manifest, as_source=False)
        return engine.whole(engine.copy(engine.shell(box, source), tree, transport=transport, retries=0))

    assert in_child(work, uid=NOBODY)
    assert set(os.listdir(staging)) == {"none", "ro"}
    staged = engine.staged(staging, manifest, as_source=True)
    assert engine.whole(engine.copy(staged, engine.shell(box, target), transport=transport))
    assert unlike(source, target, unit=BILLION) == {}


RIGHTS = "-dac_override,-dac_read_search"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
@pytest.mark.parametrize("kind", ["gnu", "busybox"])
@pytest.mark.parametrize(("rights", "given"), [(RIGHTS, 3000), (f"{RIGHTS},-fowner", 0)])
def test_root_that_may_not_pass_permissions_keeps_what_it_could_not_get_back_to(place, kind, rights, given):
    source, target = place / "source", place / "target"
    box = Box(
        str(place / "box"), kind, wrapper=["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    )
    for name, mode in {"a/secret": 0o600, "a/set": 0o4711, "open/all": 0o644, "open/none": 0}.items():
        write(source, name, name.encode(), mode)
        os.chown(source / name, 3000, 3000)
        os.chmod(source / name, mode)
    for name, mode in {"a": 0o700, "open": 0o755}.items():
        os.chown(source / name, 1000, 1000)
        os.chmod(source / name, mode)
    target.mkdir()
    outcome = engine.copy(engine.local(source), engine.shell(box, target), metadata="report", retries=0)
    assert engine.whole(outcome, "report")
    kept = {"a", "a/secret", "a/set", "open", "open/none", *([] if given else ["open/all"])}
    assert set(outcome.parity.metadata) == kept
    have, want = snapshot(target), snapshot(source)
    assert {path: seen.content for path, seen in have.items()} == {
        p: seen.content for p, seen in want.items()
    }
    assert have[b"a/set"].mode == 0o711
    assert os.stat(target / "open/all").st_uid == given
    again = engine.copy(engine.local(source), engine.shell(box, target), metadata="report", retries=0)
    assert (engine.whole(again, "report"), again.bytes_moved) == (True, 0)


@pytest.mark.skipif(not may_make_devices(), reason="needs a user who may make devices")
@pytest.mark.parametrize("kind", ["gnu", "busybox"])
def test_a_device_that_root_may_not_make_is_a_difference_of_attributes(place, kind):
    source, target = place / "source", place / "target"
    box = Box(str(place / "box"), kind, wrapper=["setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod"])
    write(source, "file", b"x")
    os.mknod(source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    target.mkdir()
    outcome = engine.copy(engine.local(source), engine.shell(box, target), metadata="report", retries=0)
    assert engine.whole(outcome, "report")
    assert outcome.parity.metadata == {"device": {"device": ["there", "missing"]}}


def test_a_failure_says_whether_something_was_changed(place, monkeypatch):
    source, target = engine.local(place / "source"), engine.local(place / "target")
    write(place / "source", "file", b"x")

    def full(_root):
        raise EndpointError("full")

    monkeypatch.setattr(target, "end", full)
    with pytest.raises(EndpointError, match="full") as caught:
        engine.copy(source, target)
    assert caught.value.changed
    monkeypatch.setattr(target, "begin", lambda: full(None))
    write(place / "source", "other", b"x")
    with pytest.raises(EndpointError, match="full") as caught:
        engine.copy(source, target)
    assert not caught.value.changed
