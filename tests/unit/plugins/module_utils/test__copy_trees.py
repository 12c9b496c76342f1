# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any tree over any other tree: generated ones, copied, compared by a reader of our own, and copied again."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import engine
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees import BILLION, touched, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._local_tree import LocalTree
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import LOST_AND_FOUND, WORK_DIR

# Generated names are partly constants of the code, and two of these name what is left alone.
NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"c", b"-n", b"x\ny", b"\\", b" ", b"*", b"\xff", b"[a]", b"end", b"a.b"]),
    st.binary(min_size=1, max_size=12).filter(
        lambda name: not {0, 0x2F} & set(name) and name not in (b".", b"..", WORK_DIR, LOST_AND_FOUND)
    ),
)
TIMES = st.one_of(
    st.sampled_from([0, -1, 1, BILLION - 1, -BILLION // 2 - BILLION]),
    st.integers(-2_000_000_000 * BILLION, 4_000_000_000 * BILLION),
).filter(lambda mtime: mtime // BILLION != -1)
CONTENT = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"", b"same", b"x" * 512, b"y" * 513, bytes(2000)])
)
FILES = st.tuples(
    st.just("file"), CONTENT, st.sampled_from([0o600, 0o644, 0o755, 0o4755, 0o2711, 0o1644]), TIMES
)
LINKS = st.tuples(
    st.just("link"), st.sampled_from([b"a", b"../b", b"/etc", b"\n", b"loop"]), st.just(0), TIMES
)
FIFOS = st.tuples(st.just("fifo"), st.just(b""), st.sampled_from([0o600, 0o666]), TIMES)
TWINS = st.tuples(st.just("twin"), st.integers(0, 9), st.just(0), st.just(0))
TREES = st.recursive(
    st.one_of(FILES, FILES, LINKS, FIFOS, TWINS),
    lambda inner: st.tuples(
        st.just("dir"),
        st.dictionaries(NAMES, inner, max_size=5),
        st.sampled_from([0o700, 0o755, 0o2775]),
        TIMES,
    ),
    max_leaves=12,
)
ROOTS = st.tuples(st.just("dir"), st.dictionaries(NAMES, TREES, max_size=6), st.just(0o755), TIMES)


def build(path: bytes, tree, files: list[bytes]) -> None:
    """Make `tree` at `path`; `files` are those that a further name may be given to."""
    kind, inside, mode, mtime = tree
    if kind == "dir":
        os.makedirs(path, exist_ok=True)
        for name, child in inside.items():
            build(path + b"/" + name, child, files)
    elif kind == "file":
        with open(path, "wb") as stream:
            stream.write(inside)
        files.append(path)
    elif kind == "link":
        os.symlink(inside, path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        if files:
            os.link(files[inside % len(files)], path)
        return
    if kind != "link":
        os.chmod(path, mode)
    os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


@pytest.mark.parametrize(
    ("kinds", "examples"),
    [
        (("local", "local"), 80),
        (("gnu", "local"), 20),
        (("local", "gnu"), 20),
        (("local", "busybox"), 20),
        (("busybox", "gnu"), 10),
    ],
    ids=lambda kinds: "-".join(kinds) if isinstance(kinds, tuple) else "",
)
def test_any_tree_over_any_other(boxes, kinds, examples):
    def end(kind, path):
        return engine.end(boxes, kind, path)

    unit = 1 if "busybox" not in kinds else BILLION

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    @given(ROOTS, ROOTS, st.booleans())
    def copied(source_tree, target_tree, delete):
        place = Path(tempfile.mkdtemp(prefix="kubeferry-test-"))
        try:
            for name, tree in (("source", source_tree), ("target", target_tree)):
                build(os.fsencode(place / name), tree, [])
            before = touched(place / "source")
            there = touched(place / "target")

            def ends():
                return end(kinds[0], place / "source"), end(kinds[1], place / "target")

            try:
                outcome = engine.copy(*ends(), delete=delete)
            except EndpointError as exc:
                # A directory with files where the source has none: nothing may have happened.
                assert not delete
                assert "lies in a directory of the target" in str(exc)  # noqa: PT017
                assert touched(place / "target") == there
                return
            assert engine.whole(outcome), outcome.parity
            found = unlike(place / "source", place / "target", unit=unit)
            if delete:
                assert found == {}
            else:
                assert {path for path, how in found.items() if how != "extra"} <= linked_to_extra(place)
            assert touched(place / "source") == before
            there = touched(place / "target")
            again = engine.copy(*ends(), delete=delete)
            assert (bool(again.plan), again.bytes_moved) == (False, 0)
            assert touched(place / "target") == there
        finally:
            shutil.rmtree(place)

    copied()


def linked_to_extra(place: Path) -> set[bytes]:
    """Files at the target that share an inode with one that the source lacks: our reader counts it as the first."""
    groups: dict[tuple[int, int], list[bytes]] = {}
    base = os.fsencode(place / "target")
    for folder, _folders, files in os.walk(base):
        for name in files:
            status = os.lstat(os.path.join(folder, name))
            groups.setdefault((status.st_dev, status.st_ino), []).append(
                os.path.relpath(os.path.join(folder, name), base)
            )
    source = os.fsencode(place / "source")
    return {
        path
        for paths in groups.values()
        if any(not os.path.lexists(os.path.join(source, each)) for each in paths)
        for path in paths
    }


class KeepsSeconds(LocalTree):
    """A tree on a file system that keeps whole seconds, such as ext4 with inodes of 128 bytes."""

    def scan(self, selection, store=None, *, xattrs=True):
        found = super().scan(selection, store, xattrs=xattrs)
        floored = [
            replace(
                each,
                mtime=each.mtime // BILLION * BILLION,
                stamp=(each.stamp[0], each.stamp[1] // BILLION * BILLION),
            )
            for each in found
        ]
        found.add(floored)
        return found


@pytest.mark.parametrize("mtime", [5 * BILLION + 123, 6 * BILLION])
def test_a_target_that_keeps_whole_seconds(tmp_path, mtime):
    write(tmp_path / "source", "a/file", b"content", mtime=5 * BILLION + 123)
    tree = KeepsSeconds(str(tmp_path / "target"), engine.progress())
    outcome = engine.copy(engine.local(tmp_path / "source"), tree)
    assert engine.whole(outcome)
    os.utime(tmp_path / "target/a/file", ns=(mtime, mtime))
    again = engine.copy(engine.local(tmp_path / "source"), tree)
    assert engine.whole(again)
    assert bool(again.plan) is (mtime == 6 * BILLION)
