# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths below a directory, however deep they lie."""

from __future__ import annotations

import os
import subprocess

import engine
import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._folder import KEPT, Folder
from ansible_collections.kubeferry.pvc.plugins.module_utils._leftovers import clear
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import Selection
from ansible_collections.kubeferry.pvc.plugins.module_utils._tree import Changes

LEVELS = 1_500
DEEP = b"/".join([b"d"] * LEVELS)


@pytest.fixture
def tmp_path(tmp_path):
    """A directory that is removed by a tool for which no tree is too deep."""
    yield tmp_path
    subprocess.run(["rm", "-rf", "--", str(tmp_path)], check=True, timeout=60)


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def dug(root, name):
    """Make a file that deep below `root`."""
    root.mkdir(exist_ok=True)
    with Folder(os.fsencode(root)) as folder:
        parent, last = folder.made(DEEP + b"/" + name)
        os.close(os.open(last, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=parent))


def test_a_deep_path_is_made_and_found_with_few_descriptors(tmp_path):
    before = open_descriptors()
    dug(tmp_path / "root", b"file")
    with Folder(os.fsencode(tmp_path / "root")) as folder:
        parent, name = folder.at(DEEP + b"/file")
        assert os.stat(name, dir_fd=parent).st_size == 0
        for length in range(len(DEEP), 0, -40):
            folder.directory(DEEP[:length].rstrip(b"/"))
        assert open_descriptors() <= before + KEPT + 1
        with pytest.raises(FileNotFoundError):
            folder.directory(DEEP + b"/none/there")
    assert open_descriptors() == before


def test_what_was_asked_for_right_before_stays_open(tmp_path):
    dug(tmp_path / "root", b"file")
    (tmp_path / "root" / "other").mkdir()
    with Folder(os.fsencode(tmp_path / "root")) as folder:
        other = folder.directory(b"other")
        was = os.fstat(other).st_ino
        folder.at(DEEP + b"/file")
        folder.at(DEEP[:LEVELS] + b"d/d")
        assert os.fstat(other).st_ino == was


@pytest.mark.parametrize("path", [b"..", b"a/..", b"../a", b"a/../b", b"", b"a//b", b"a/"])
def test_paths_that_leave_the_tree(tmp_path, path):
    (tmp_path / "a").mkdir()
    with Folder(os.fsencode(tmp_path)) as folder:
        for ask in (folder.at, folder.made):
            with pytest.raises(OSError, match="a path that leaves the tree"):
                ask(path + b"/x" if path else path)


@pytest.mark.parametrize("ask", ["directory", "made"])
def test_a_link_on_the_way_is_not_followed(tmp_path, ask):
    (tmp_path / "outside" / "in").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    with Folder(os.fsencode(tmp_path / "root")) as folder, pytest.raises(NotADirectoryError):
        getattr(folder, ask)(b"link/in/new/x")
    assert os.listdir(tmp_path / "outside" / "in") == []


def test_a_deep_tree_is_removed(tmp_path):
    dug(tmp_path / "root", b"file")
    clear(os.fsencode(tmp_path), b"root")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ends", ["local to local", "gnu to local", "local to gnu"])
def test_a_deep_tree_is_copied(boxes, tmp_path, ends):
    source, target = tmp_path / "source", tmp_path / "target"
    dug(source, b"file")
    target.mkdir()
    kinds = ends.split(" to ")
    trees = [engine.end(boxes, kind, path) for kind, path in zip(kinds, (source, target), strict=True)]
    assert engine.whole(engine.copy(*trees))
    with Folder(os.fsencode(target)) as folder:
        parent, name = folder.at(DEEP + b"/file")
        assert os.stat(name, dir_fd=parent).st_size == 0


def test_a_file_that_was_named_deeper_than_there_is_anything(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(EndpointError, match=r"^d/d/.*… isn't in .*: correct the list of files") as caught:
        engine.copy(
            engine.local(tmp_path / "source"),
            engine.local(tmp_path / "target"),
            files=[f"{DEEP.decode()}/file"],
        )
    assert len(str(caught.value)) < 1_500


def test_attributes_for_a_file_that_became_a_link_change_nothing_outside(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    outside.chmod(0o600)
    os.utime(outside, ns=(5, 5))
    source, target = tmp_path / "source", tmp_path / "target"
    for root in (source, target):
        root.mkdir()
        (root / "file").write_bytes(b"x")
    (source / "file").chmod(0o666)
    entries = [entry for entry in engine.local(source).scan(Selection()) if entry.path == b"file"]
    tree = engine.local(target)
    tree.begin()
    (target / "file").unlink()
    (target / "file").symlink_to(outside)
    tree.apply(Changes(attributes=entries))
    tree.close()
    assert len(entries) == 1
    assert (outside.stat().st_mode & 0o777, outside.stat().st_mtime_ns) == (0o600, 5)
