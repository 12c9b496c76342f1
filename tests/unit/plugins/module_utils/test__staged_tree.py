# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging: contents on disk, owners, modes and devices in the manifest, for a user who may not make them."""

from __future__ import annotations

import itertools
import os
import shutil
import stat

import engine
import pytest
import trees
from badends import LiveTree
from engine import NOBODY, in_child
from toolbox import Box
from trees import BILLION, LARGE_ID, NAMES, snapshot, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    EndpointError,
    ManifestError,
    UsageError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest_file import digest_of, read
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest_tree import ManifestTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._staged_tree import StagedTree

ROOT = os.geteuid() == 0


def plant(source):
    """What an ordinary user may read of a tree that only root can make."""
    for number, name in enumerate(NAMES):
        write(source, b"names/" + name, name * 30, mtime=(number - 5) * BILLION + 123_456_789)
    for mode in (0o444, 0o644, 0o755, 0o4755, 0o2755, 0o6755, 0o1644):
        write(source, f"modes/{mode:04o}", b"x", mode)
        os.makedirs(source / f"modes/d{mode:04o}")
        os.chmod(source / f"modes/d{mode:04o}", mode | 0o111)
    write(source, "big", bytes(100_000) + b"end")
    os.link(source / "big", source / "names/twin")
    os.symlink("/etc/passwd", source / "absolute")
    os.mkfifo(source / "fifo", 0o640)
    if ROOT:
        for path in ("big", "modes/4755", "modes/d2755", "names/plain"):
            mode = stat.S_IMODE(os.stat(source / path).st_mode)
            os.chown(source / path, LARGE_ID, LARGE_ID + 7)
            os.chmod(source / path, mode)
        os.chown(source / "absolute", 12, 13, follow_symlinks=False)
    if trees.may_make_devices():
        os.mknod(source / "disk", stat.S_IFBLK | 0o640, os.makedev(7, 5))
        os.chown(source / "disk", 0, 6)
    for path, _folders, _files in os.walk(source):
        os.utime(path, ns=(BILLION, 77 * BILLION))


class Relay:
    """Source to staging as an ordinary user, staging to destination as who may do everything."""

    def __init__(self, place, kinds):
        self.source, self.target = place / "source", place / "target"
        self.open = place / "open"
        self.staging, self.manifest = self.open / "staging", self.open / "manifest.jsonl"
        for path in (self.source, self.target, self.open):
            path.mkdir()
        self.open.chmod(0o777)
        self.boxes = [Box(str(place / f"box{number}"), kind) for number, kind in enumerate(kinds)]
        self.unit = 1 if all(box.exact for box in self.boxes) else BILLION

    def first(self, **options):
        def work():
            tree = engine.staged(self.staging, self.manifest, as_source=False)
            outcome = engine.copy(engine.shell(self.boxes[0], self.source), tree, **options)
            return engine.whole(outcome), [change.path for change in outcome.plan.changes()], outcome.parity

        return in_child(work, uid=NOBODY)

    def second(self, **options):
        tree = engine.staged(self.staging, self.manifest, as_source=True)
        return engine.copy(tree, engine.shell(self.boxes[1], self.target), **options)


@pytest.mark.parametrize("kinds", [("gnu", "gnu"), ("busybox", "gnu"), ("gnu", "busybox")], ids="-".join)
def test_owners_modes_and_devices_survive_staging_by_an_ordinary_user(place, kinds):
    relay = Relay(place, kinds)
    plant(relay.source)
    whole, changed, _parity = relay.first()
    assert whole
    assert len(changed) == len(snapshot(relay.source))
    for seen in snapshot(relay.staging).values():
        assert stat.S_IFMT(seen.kind) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        assert seen.uid == (NOBODY if ROOT else os.geteuid())
        assert (
            seen.kind == stat.S_IFLNK
            or seen.mode & 0o7600 in (0o600, 0o1600, 0o700)
            or not seen.mode & 0o7000
        )

    outcome = relay.second()
    assert engine.whole(outcome)
    assert unlike(relay.source, relay.target, unit=relay.unit) == {}

    assert relay.first()[:2] == (True, [])
    again = relay.second()
    assert (engine.whole(again), bool(again.plan)) == (True, False)


def test_a_changed_mode_or_owner_travels_through_staging(place):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.source, "file", b"content")
    relay.first()
    relay.second()
    os.chmod(relay.source / "file", 0o4755)
    if ROOT:
        os.chown(relay.source / "file", LARGE_ID, 3)
        os.chmod(relay.source / "file", 0o4755)
    assert relay.first()[:2] == (True, [b"file"])
    assert engine.whole(relay.second())
    assert unlike(relay.source, relay.target) == {}


@pytest.mark.parametrize("size", [5, 9 << 20])
def test_a_staged_file_with_other_content_is_not_sent_again_and_again(place, size):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.source, "d/file", b"right".ljust(size, b"x"))
    write(relay.source, "d/other", b"other")
    relay.first()
    look = os.stat(relay.staging / "d/file")
    with open(relay.staging / "d/file", "r+b") as file:
        file.write(b"wrong")
    os.utime(relay.staging / "d/file", ns=(look.st_atime_ns, look.st_mtime_ns))
    with pytest.raises(
        EndpointError, match=r"^d/file in .*staging .*isn't what its manifest says.*first hop again"
    ):
        relay.second(retries=0)
    assert set(snapshot(relay.target)) == {b".", b"d", b"d/other"}
    relay.first()
    assert engine.whole(relay.second())
    assert unlike(relay.source, relay.target, unit=relay.unit) == {}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda staging: (staging / "file").unlink(),
            r"^file in .*staging .*missing from the staging directory",
        ),
        (
            lambda staging: write(staging, "file", b"longer"),
            r"^file in .*changed in the staging directory since",
        ),
        (
            lambda staging: write(staging, "new", b"x"),
            r"^new in .*in the staging directory, but not in its manifest; .* stage in another directory",
        ),
    ],
    ids=["missing", "changed", "added"],
)
def test_a_staging_directory_that_is_not_its_manifest_is_refused(place, spoil, said):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.source, "file", b"right")
    relay.first()
    spoil(relay.staging)
    with pytest.raises(EndpointError, match=said):
        relay.second()
    assert set(snapshot(relay.target)) == {b"."}


def test_several_hops_add_to_one_manifest(place):
    relay = Relay(place, ("gnu", "gnu"))
    for name in ("10", "a/11", "a/51", "b/x"):
        write(relay.source, name, name.encode())
    assert relay.first(files=["10", "a/11"])[0]
    assert relay.first(files=["a/51"])[0]
    assert {entry.path for entry in read(str(relay.manifest))} == {b"10", b"a", b"a/11", b"a/51"}
    assert engine.whole(relay.second(files=["10", "a/11", "a/51"]))
    assert set(snapshot(relay.target)) == {b".", b"10", b"a", b"a/11", b"a/51"}
    assert not relay.second().plan


def test_deletions_travel_through_staging(place):
    relay = Relay(place, ("gnu", "gnu"))
    plant(relay.source)
    relay.first()
    relay.second()
    shutil.rmtree(relay.source / "names")
    (relay.source / "fifo").unlink()
    os.utime(relay.source, ns=(5, 5))
    assert relay.first(delete=True)[0]
    assert engine.whole(relay.second(delete=True))
    assert unlike(relay.source, relay.target) == {}


def test_one_name_of_a_linked_file_never_becomes_another_file(place):
    """At the destination lies another file of that size under the first name of the group."""
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.source, "a", b"right", mtime=BILLION)
    os.link(relay.source / "a", relay.source / "b")
    relay.first()
    write(relay.target, "a", b"wrong", mtime=BILLION)
    assert engine.whole(relay.second(files=["b"]))
    assert (relay.target / "b").read_bytes() == b"right"
    assert (relay.target / "a").read_bytes() == b"wrong"


def test_another_digest_than_the_manifest_holds_is_refused(place):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.source, "file", b"right")
    relay.first(checksum="md5")
    with pytest.raises(UsageError, match=r"^checksum: .* holds md5 digests: set checksum to md5\.$"):
        relay.second()
    assert engine.whole(relay.second(checksum="md5"))


def test_a_source_without_its_manifest_is_refused(place):
    relay = Relay(place, ("gnu", "gnu"))
    relay.staging.mkdir()
    with pytest.raises(
        ManifestError, match=r"manifest.jsonl can't be read \(No such file or directory\): correct"
    ):
        relay.second()


def restless(relay):
    """A first hop during which one of the files changes whenever it is read."""
    write(relay.source, "quiet", b"quiet")
    versions = itertools.count()
    tree = LiveTree(
        str(relay.source),
        engine.progress(),
        "before read",
        lambda: write(relay.source, "live", b"v" * (100 + next(versions))),
    )
    tree.times = 100
    staging = engine.staged(relay.staging, relay.manifest, as_source=False)
    return engine.copy(tree, staging, delete=True, on_change="report", retries=1)


@pytest.mark.parametrize("staged_before", [False, True])
@pytest.mark.parametrize("files", [None, ["live", "quiet"]])
def test_what_changes_whenever_it_is_staged_is_named_and_does_not_stop_the_rest(place, staged_before, files):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.source, "live", b"first")
    write(relay.target, "live", b"older")
    write(relay.target, "extra", b"extra")
    if staged_before:
        staged_here(relay)
        write(relay.source, "live", b"second")
    first = restless(relay)
    assert (first.parity.changed, first.parity.at_rest().holds("strict")) == ({"live": "changed"}, True)
    second = relay.second(delete=True, on_change="report", files=files)
    assert second.parity.unreadable == {"live": "changed at the source while it was staged"}
    assert (engine.whole(second), second.parity.at_rest().holds("strict", extra_allowed=False)) == (
        False,
        True,
    )
    assert (relay.target / "live").read_bytes() == b"older"
    staged = {b".", b"live", b"quiet"} | ({b"file"} if staged_before and not files else set())
    assert set(snapshot(relay.target)) == staged | ({b"extra"} if files else set())
    staged_here(relay)
    assert engine.whole(relay.second(delete=True))
    assert unlike(relay.source, relay.target) == {}


def test_a_staging_directory_may_keep_times_in_seconds(place):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.source, "file", b"right", mtime=5 * BILLION + 123)
    relay.first()
    os.utime(relay.staging / "file", ns=(5 * BILLION, 5 * BILLION))
    assert relay.first()[:2] == (True, [])
    assert engine.whole(relay.second())
    assert unlike(relay.source, relay.target) == {}


REPLACED = (
    r"^The manifest .*manifest.jsonl isn't the one that the files were staged with: it was edited, or another copy has "
    r"used its staging directory\. Give each copy a directory of its own, and run the first hop again\.$"
)


def of_another(relay):
    """Another source's files, staged in the same place by a run of its own."""
    other = relay.open / "other"
    write(other, "file", b"wrong")
    write(other, "only here", b"other")
    tree = engine.staged(relay.staging, relay.manifest, as_source=False)
    assert engine.whole(engine.copy(engine.local(other), tree, delete=True))


def staged_here(relay):
    """What the first hop tells the second one: the digest of the manifest."""
    write(relay.source, "file", b"right")
    tree = engine.staged(relay.staging, relay.manifest, as_source=False)
    assert engine.whole(engine.copy(engine.local(relay.source), tree, delete=True))
    return tree.manifest_digest


def test_what_another_copy_has_staged_since_is_refused(place):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.target, "kept", b"kept")
    digest = staged_here(relay)
    of_another(relay)
    tree = StagedTree(str(relay.staging), str(relay.manifest), engine.progress(), True, digest)
    with pytest.raises(ManifestError, match=REPLACED):
        engine.copy(tree, engine.local(relay.target), delete=True)
    assert set(snapshot(relay.target)) == {b".", b"kept"}
    with pytest.raises(ManifestError, match=REPLACED):
        ManifestTree(str(relay.manifest), digest)


def test_what_another_copy_stages_meanwhile_is_refused(place):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.target, "kept", b"kept")
    staged_here(relay)

    class Late(StagedTree):
        def read(self, entries):
            yield from super().read(entries)
            of_another(relay)

    tree = Late(str(relay.staging), str(relay.manifest), engine.progress(), as_source=True)
    with pytest.raises(ManifestError, match=REPLACED):
        engine.copy(tree, engine.local(relay.target), delete=True)
    assert (relay.target / "file").read_bytes() == b"right"
    assert set(snapshot(relay.target)) == {b".", b"file", b"kept"}


def test_the_digest_of_the_manifest_is_told_whether_it_was_written_or_found_whole(place):
    relay, proofs = Relay(place, ("gnu", "gnu")), str(place / "proofs")
    staged_here(relay)
    told = []
    for _run in range(3):
        tree = engine.staged(relay.staging, relay.manifest, as_source=False)
        proven = engine.copy(engine.local(relay.source), tree, delete=True, proofs=proofs).proven
        told.append((tree.manifest_digest, digest_of(str(relay.manifest)), proven is None))
    assert told[2] == (told[0][0], told[0][0], False)
    assert told[0][0] == told[0][1]


def test_an_unreadable_file_is_named_before_anything_is_touched(place):
    relay = Relay(place, ("gnu", "gnu"))
    write(relay.source, "good", b"x")
    write(relay.source, "secret", b"x", 0)
    write(relay.source, "locked/inside", b"x")
    os.chmod(relay.source / "locked", 0)
    try:
        with pytest.raises(
            EndpointError, match=r"^(locked, secret|secret, locked) in .*permission denied"
        ) as caught:
            relay.first()
        assert str(caught.value).endswith("exclude what isn't needed, or run as a user who may read it.")
        assert not relay.staging.exists()
        assert relay.first(exclude=["secret", "locked"])[0]
    finally:
        os.chmod(relay.source / "locked", 0o755)


def test_unreadable_files_on_this_machine_are_named_too(place):
    source, target = place / "source", place / "open"
    write(source, "good", b"x")
    write(source, "secret", b"x", 0)
    write(source, "locked/inside", b"x")
    os.chmod(source / "locked", 0)
    target.mkdir()
    target.chmod(0o777)

    def work(**options):
        return in_child(
            lambda: engine.whole(
                engine.copy(engine.local(source), engine.local(target), metadata="ignore", **options)
            ),
            uid=NOBODY,
        )

    try:
        with pytest.raises(EndpointError, match=r"^locked in .*permission denied"):
            work(exclude=["secret"])
        assert work(exclude=["secret", "locked"])
        assert set(snapshot(target)) == {b".", b"good"}
        try:
            outcome = work(exclude=["locked"], retries=0)
        except EndpointError as exc:
            assert "secret" in str(exc)  # noqa: PT017 (either way it is named)
        else:
            assert outcome is False
    finally:
        os.chmod(source / "locked", 0o755)


def test_a_target_that_may_not_be_written_to_is_named(place):
    write(place / "source", "file", b"x")
    (place / "target").mkdir(mode=0o755)

    def work():
        engine.copy(engine.local(place / "source"), engine.local(place / "target"))

    if not ROOT:
        (place / "target").chmod(0o555)
    with pytest.raises(
        EndpointError, match=r"target on this machine can't be written to by user \d+: mount it writable"
    ):
        in_child(work, uid=NOBODY)


def test_owners_that_cannot_be_given_are_reported_and_may_be_forgiven(place):
    if not ROOT:
        return  # Only root can make a file of another owner.
    write(place / "source", "file", b"x")
    os.chown(place / "source/file", LARGE_ID, LARGE_ID)
    (place / "target").mkdir()
    (place / "target").chmod(0o777)

    def work():
        outcome = engine.copy(
            engine.local(place / "source"), engine.local(place / "target"), files=["file"], metadata="report"
        )
        return outcome.parity

    parity = in_child(work, uid=NOBODY)
    assert parity.metadata == {
        "file": {"uid": [str(LARGE_ID), str(NOBODY)], "gid": [str(LARGE_ID), str(NOBODY)]}
    }
    assert parity.holds("report")
    assert not parity.holds("strict")
