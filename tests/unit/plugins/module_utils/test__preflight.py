# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What must be true of both ends before anything is touched."""

from __future__ import annotations

import os

import engine
import pytest
from trees import write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _mounts
from ansible_collections.kubeferry.pvc.plugins.module_utils._capabilities import ROOT
from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import DIR, FILE, Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest import Manifest
from ansible_collections.kubeferry.pvc.plugins.module_utils._plan import Rules, make_plan
from ansible_collections.kubeferry.pvc.plugins.module_utils._preflight import (
    preflight,
    require_one_volume,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._store import Store
from ansible_collections.kubeferry.pvc.plugins.module_utils._tree import Facts

VOLUME, ANOTHER = 7, 8


def directory(path, device):
    return Entry(path, DIR, 0, 0o755, 0, 0, 0, identity=(device, 2))


@pytest.mark.parametrize(
    ("file", "device", "refused"),
    [(b"a/b/c", ANOTHER, True), (b"a/c", ANOTHER, False), (b"a/b/c", VOLUME, False)],
    ids=["in-it", "beside-it", "the-same"],
)
def test_a_volume_that_is_mounted_in_the_target(file, device, refused):
    store = Store()
    wanted = Entry(file, FILE, 1, 0o644, 0, 0, 0)
    folders = [directory(b"a", VOLUME), directory(b"a/b", device)]
    source, target = Manifest([*folders, wanted], store=store), Manifest(folders, store=store)
    plan = make_plan(source, target, Rules())
    facts = Facts("dir", volume=f"boot:{VOLUME}:2")
    if refused:
        with pytest.raises(EndpointError, match=r"^a/b in there is mounted there, or is on another volume"):
            require_one_volume(plan, target, facts, "there")
    else:
        require_one_volume(plan, target, facts, "there")


@pytest.mark.parametrize("name", [b"a", b"a/b", b"a/b/old"])
@pytest.mark.parametrize("kind", [FILE, None])
def test_a_volume_in_the_target_is_not_emptied(name, kind):
    """Neither where the source has nothing by the name of a path above it, at it or in it, nor where it has a file."""
    store = Store()
    folders = [
        directory(b"a", VOLUME),
        directory(b"a/b", ANOTHER),
        Entry(b"a/b/old", FILE, 1, 0o644, 0, 0, 0),
    ]
    kept = [folder for folder in folders[:2] if folder.path < name]
    wanted = [Entry(name, kind, 2, 0o644, 0, 0, 0)] if kind else []
    source, target = Manifest([*kept, *wanted], store=store), Manifest(folders, store=store)
    plan = make_plan(source, target, Rules(), delete=True)
    with pytest.raises(EndpointError, match=r"^a/b in there is mounted there, or is on another volume"):
        require_one_volume(plan, target, Facts("dir", volume=f"boot:{VOLUME}:2"), "there")
    if kind is None:
        require_one_volume(
            make_plan(source, target, Rules()), target, Facts("dir", volume=f"boot:{VOLUME}:2"), "there"
        )


def test_a_part_of_the_same_volume_that_is_mounted_in_the_target_is_not_emptied(tmp_path, monkeypatch):
    """Nothing but the list of mounts tells."""
    monkeypatch.setattr(_mounts, "MOUNTS", str(tmp_path / "mountinfo"))
    point = str(tmp_path / "target/a b/vol").replace(" ", "\\040")
    lines = [f"21 1 0:1 / {path} rw - ext4 /dev/sda rw\n" for path in ("/", tmp_path / "target", point)]
    write(tmp_path, "mountinfo", "".join(lines).encode())
    write(tmp_path, "target/a b/vol/data", b"precious")
    write(tmp_path, "source/other", b"")
    os.symlink("target", tmp_path / "link")
    with pytest.raises(EndpointError, match=r"^a b/vol in .* is mounted there"):
        engine.copy(engine.local(tmp_path / "source"), engine.local(tmp_path / "link"), delete=True)
    assert (tmp_path / "target/a b/vol/data").read_bytes() == b"precious"
    assert not (tmp_path / "target/other").exists()


@pytest.mark.parametrize("kind", ["busybox", "gnu"])
def test_what_is_mounted_in_a_pod(boxes, kind):
    """Every machine has something mounted in /proc, or in /dev."""
    there = [point for point in _mounts.mounts_here() if b"\\" not in point and point != b"/"]
    facts = engine.shell(boxes[kind], "/").facts()
    assert set(facts.mounts) == {point[1:] for point in there}


class End:
    """A tree that just tells its facts."""

    def __init__(self, where, facts):
        self.where = where
        self.facts = lambda: facts


def test_a_target_that_can_not_be_made():
    missing = Facts("missing", writable=False, rights=ROOT._replace(uid=7), above=("a directory",))
    with pytest.raises(EndpointError) as caught:
        preflight(End("source", Facts("dir")), End("/read-only/new on this machine", missing))
    assert str(caught.value) == (
        "/read-only/new on this machine doesn't exist and can't be made by user 7: mount its file system writable, run "
        "as another user, or correct the path."
    )
    in_a_pod = Facts("missing", writable=False)
    with pytest.raises(EndpointError, match=r"^/new in a pod doesn't exist: correct the path\.$"):
        preflight(End("source", Facts("dir")), End("/new in a pod", in_a_pod))


@pytest.mark.parametrize("kind", ["local", "busybox", "gnu"])
def test_a_directory_that_was_removed_is_no_empty_one(boxes, tmp_path, kind):
    """A pod goes on to have it mounted, as this process has it open."""
    write(tmp_path / "target", "precious", b"")
    (tmp_path / "source").mkdir()
    held = os.open(tmp_path / "source", os.O_RDONLY)
    try:
        source = f"/proc/{os.getpid()}/fd/{held}"
        assert engine.end(boxes, kind, source).facts().kind == "dir"
        (tmp_path / "source").rmdir()
        with pytest.raises(
            EndpointError, match=r" was removed, and what is still mounted there isn't it any more"
        ):
            engine.copy(engine.end(boxes, kind, source), engine.local(tmp_path / "target"), delete=True)
    finally:
        os.close(held)
    assert (tmp_path / "target/precious").exists()
