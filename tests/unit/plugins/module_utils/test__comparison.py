# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Names that a target's file system can't hold, or takes for one another, as FAT, SMB or a folding ext4 do."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import engine
import pytest
from trees import write

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_files import trouble
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree


class Folding(LocalTree):
    """A directory in which a name in capitals leads to what its small letters lead to."""

    def scan(self, selection, store=None, *, xattrs=True):
        found = super().scan(selection, store, xattrs=xattrs)
        named = {*selection.files, *selection.parents()}
        there = [(path, found.get(path.lower())) for path in named if path != path.lower()]
        found.add(replace(entry, path=path) for path, entry in there if entry is not None)
        return found


@pytest.mark.parametrize("names", [("a", "A"), ("d/a", "D/a")], ids=str)
def test_two_names_of_one_thing_are_no_two_files(tmp_path, names):
    for name in names:
        write(tmp_path / "source", name, b"the same", mtime=10**18)
    write(tmp_path / "target", names[0], b"the same", mtime=10**18)
    target = Folding(str(tmp_path / "target"), engine.progress())
    first, second = names
    with pytest.raises(
        EndpointError, match=f"^{first} and {second} are one and the same in .*/target on this"
    ):
        engine.copy(engine.local(tmp_path / "source"), target, files=list(names))
    assert engine.whole(engine.copy(engine.local(tmp_path / "source"), target, files=[names[0]]))


def test_names_that_are_alike_and_apart_are_copied(tmp_path):
    for name in ("d/a", "D/a", "x", "X"):
        write(tmp_path / "source", name, name.encode())
    files = ["d/a", "D/a", "x", "X"]
    assert engine.whole(
        engine.copy(engine.local(tmp_path / "source"), engine.local(tmp_path / "target"), files=files)
    )


def test_two_names_of_one_file_that_is_linked_are_copied(tmp_path):
    write(tmp_path / "source", "a", b"linked")
    (tmp_path / "source/A").hardlink_to(tmp_path / "source/a")
    outcome = engine.copy(
        engine.local(tmp_path / "source"), engine.local(tmp_path / "target"), files=["a", "A"]
    )
    assert engine.whole(outcome)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EILSEQ, "Exclude it, or choose another target, if its file system can't hold such a name."),
        (errno.EACCES, "Check that you may write there."),
    ],
)
def test_a_name_that_can_not_be_held_is_no_want_of_a_permission(number, remedy):
    error = trouble(OSError(number, os.strerror(number)), "there", b"co:lon")
    assert str(error) == f"co:lon can't be written below there: {os.strerror(number)}. {remedy}"
