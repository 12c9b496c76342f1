# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifest files: what is written comes back, and what was tampered with is refused."""

from __future__ import annotations

import json
import os
import subprocess

import engine
import pytest
import trees
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbox import found

from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import (
    BLOCK,
    CHAR,
    DIR,
    FILE,
    KINDS,
    SYMLINK,
    Entry,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import ManifestError
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest import Manifest
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest_file import (
    digest_of,
    read,
    require_place,
    sums_line,
    sums_path,
    write,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import Selection

NAMES = st.binary(min_size=1, max_size=30).filter(
    lambda name: not {0, 0x2F} & set(name) and name not in (b".", b"..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
XATTRS = st.tuples(
    st.one_of(
        st.just(b"security.capability"),
        NAMES.map(lambda name: b"user." + name),
    ),
    st.binary(max_size=20),
)
IDS = st.integers(0, (1 << 32) - 2)


@st.composite
def entries(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    return Entry(
        path=draw(PATHS),
        kind=kind,
        size=draw(st.integers(0, 1 << 50)) if kind == FILE else 0,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(IDS),
        gid=draw(IDS),
        mtime=draw(st.integers(-(1 << 62), 1 << 62)),
        link=draw(st.binary(min_size=1, max_size=40).filter(lambda link: 0 not in link))
        if kind == SYMLINK
        else b"",
        hardlink=draw(st.one_of(st.just(b""), PATHS)) if kind == FILE else b"",
        device=(draw(st.integers(0, 4095)), draw(st.integers(0, 1 << 20)))
        if kind in (CHAR, BLOCK)
        else (0, 0),
        digest=draw(st.one_of(st.just(""), st.just("ab" * 32))) if kind == FILE else "",
        implied=kind == DIR and draw(st.booleans()),
        xattrs=draw(st.lists(XATTRS, max_size=2, unique_by=lambda pair: pair[0]).map(sorted).map(tuple)),
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(entries(), max_size=6), st.dictionaries(PATHS, st.just("permission denied"), max_size=2))
def test_what_is_written_is_read_again(tmp_path_factory, found_entries, unreadable):
    manifest = Manifest(found_entries, root="/mnt/pvc-0")
    manifest.unreadable = unreadable
    manifest.restless = list(unreadable)
    manifest.origin = ". in claim shop/web at https://one"
    try:
        manifest.require_tree()
    except ValueError:
        return
    path = str(tmp_path_factory.getbasetemp() / "manifest.jsonl")
    write(manifest, path)
    assert read(path) == manifest


def planted(tmp_path, boxes):
    """A manifest of the whole awkward tree with digests, and the file it was written to."""
    trees.plant(tmp_path / "tree")
    tree = engine.shell(boxes["gnu"], tmp_path / "tree")
    manifest = tree.scan(Selection())
    files = list(manifest.paths("kind = 'file' AND hardlink = x''"))
    manifest.set_digests(tree.digests(files, "sha256"))
    path = str(tmp_path / "made" / "for it" / "manifest.jsonl")
    write(manifest, path)
    return manifest, path


def test_the_awkward_tree_survives_and_sha256sum_agrees(tmp_path, boxes):
    manifest, path = planted(tmp_path, boxes)
    again = read(path)
    assert again == manifest
    sums = sums_path(path, "sha256")
    assert sums.endswith("/manifest.sha256sums")
    checked = subprocess.run(
        [found("sha256sum", "coreutils"), "--check", "--strict", "--quiet", sums],
        cwd=tmp_path / "tree",
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    assert len(trees.content_of(sums).splitlines()) == manifest.totals()[0]


def test_names_are_escaped_as_coreutils_does():
    assert sums_line(b"a\\b\nc", "00") == b"\\00  a\\\\b\\nc\n"
    assert sums_line(b"plain", "00") == b"00  plain\n"


def test_every_truncation_is_noticed(tmp_path, boxes):
    _manifest, path = planted(tmp_path, boxes)
    lines = trees.content_of(path).splitlines(keepends=True)
    cut = str(tmp_path / "cut")
    for kept in range(len(lines)):
        with open(cut, "wb") as stream:
            stream.writelines(lines[:kept])
        with pytest.raises(ManifestError, match=r"is truncated: write it anew with pvc_manifest\.$"):
            read(cut)
    with open(cut, "wb") as stream:
        stream.write(b"".join(lines)[:-5])
    with pytest.raises(ManifestError):
        read(cut)


HEADER = {"kubeferry_manifest": 2, "checksum": "sha256", "mtime_unit_ns": 1, "root": "/x", "xattrs": True}
GOOD = {"path": "f", "type": "file", "size": 1, "mode": "0644", "uid": 0, "gid": 0, "mtime_ns": 0}


def forged(tmp_path, *records):
    path = tmp_path / "forged.jsonl"
    path.write_text(
        "".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records)
    )
    return str(path)


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"path": path}
            for path in ("", "/etc/passwd", "..", "../f", "a/../../f", "a/..", "a//b", "a/./b", "a/", "a\0b")
        ),
        *({"path": path} for path in (None, 1, ["f"], {"base64": "Li4v!"}, {"base64": "Li4vZg=="}, "\ud800")),
        *({"type": kind} for kind in ("", "door", None, ["file"])),
        *({"size": size} for size in (-1, "x", "1", 1.5, True, None, 1 << 63, float("inf"), float("nan"))),
        *({"type": kind} for kind in ("dir", "symlink", "fifo")),
        *({"mode": mode} for mode in ("9", "", "-1", "10000", None, 420)),
        *({"uid": uid} for uid in (-1, (1 << 32) - 1, 1 << 40, 0.5, "root")),
        *({"gid": gid} for gid in (-1, (1 << 32) - 1, None)),
        *({"mtime_ns": mtime} for mtime in (1 << 90, -(1 << 90), 1e9, "now", float("inf"))),
        {"implied": True},
        *({"hardlink": path} for path in ("../f", "/etc/shadow", "a\0b", 5)),
        *({"type": "symlink", "link": link} for link in ("a\0b", 5, None)),
        *({"type": "char", "device": device} for device in ((1,), (1, 2, 3), (-1, 0), (1 << 40, 0), "ab", 7)),
    ],
    ids=str,
)
def test_hostile_lines_are_refused(tmp_path, change):
    path = forged(tmp_path, HEADER, {**GOOD, **change}, {"entries": 1})
    with pytest.raises(
        ManifestError, match=r", line 2, isn't a line of a manifest: write it anew with pvc_manifest\.$"
    ):
        read(path)


@pytest.mark.parametrize(
    "records",
    [
        [{**HEADER, "kubeferry_manifest": 1}],
        [{**HEADER, "checksum": "crc32"}],
        [{**HEADER, "mtime_unit_ns": 0}],
        [{**HEADER, "mtime_unit_ns": "1"}],
        [{**HEADER, "mtime_unit_ns": 10**300}],
        [{**HEADER, "root": 5}],
        [GOOD],
        [[]],
        ["not json"],
        ["[" * 100_000],
        [HEADER, 5],
        [HEADER, "null"],
        [HEADER, '"entries"'],
        [HEADER, {"entries": 0}, GOOD],
        [HEADER, GOOD, {"entries": 1}, GOOD],
    ],
    ids=lambda records: str(records)[:60],
)
def test_what_is_no_manifest_is_refused(tmp_path, records):
    with pytest.raises(ManifestError, match=r"isn't a line of a manifest"):
        read(forged(tmp_path, *records))


@pytest.mark.parametrize(
    "records",
    [
        [GOOD],
        [GOOD, {"entries": 2}],
        [GOOD, GOOD, {"entries": 2}],
        [],
    ],
    ids=str,
)
def test_a_count_that_does_not_fit_is_refused(tmp_path, records):
    with pytest.raises(ManifestError, match=r"is truncated"):
        read(forged(tmp_path, HEADER, *records))


def test_something_below_a_link_is_refused(tmp_path):
    link = {**GOOD, "path": "l", "type": "symlink", "size": 0, "link": "/etc"}
    with pytest.raises(ManifestError, match=r"l/x can't lie in a symlink"):
        read(forged(tmp_path, HEADER, {**GOOD, "path": "l/x"}, link, {"entries": 2}))


def test_lines_in_any_order_make_the_same_manifest(tmp_path):
    folder = {**GOOD, "path": "d", "type": "dir", "size": 0}
    path = forged(tmp_path, HEADER, {**GOOD, "path": "d/x"}, folder, {"entries": 2})
    assert [entry.path for entry in read(path)] == [b"d", b"d/x"]


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)], ids=["fifo", "dir", "device"]
)
def test_what_is_no_regular_file_is_neither_waited_for_nor_replaced(tmp_path, make):
    path = str(tmp_path / "m.jsonl")
    make(path)
    before = os.lstat(path)
    for ask in (read, digest_of):
        with pytest.raises(
            ManifestError, match=r"m\.jsonl can't be read \(it is no regular file\): correct its path"
        ):
            ask(path)
    for ask in (require_place, lambda path: write(Manifest(), path)):
        with pytest.raises(
            ManifestError, match=r"m\.jsonl can't be written: there is something that is no regular"
        ):
            ask(path)
    assert os.lstat(path).st_mode == before.st_mode
    assert os.listdir(tmp_path) == ["m.jsonl"]


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path):
    with pytest.raises(
        ManifestError, match=r"nowhere can't be read \(No such file or directory\): correct its path, "
    ):
        read(str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ManifestError, match=r"file/m.jsonl can't be written \(File exists\): choose"):
        write(Manifest(), str(tmp_path / "file" / "m.jsonl"))


def test_a_failed_write_leaves_the_old_manifest(tmp_path):
    path = str(tmp_path / "m.jsonl")
    write(Manifest(root="old"), path)
    broken = Manifest([Entry(b"x", SYMLINK, 0, 0o755, 0, 0, 0, link=None)], root="new")
    with pytest.raises(AttributeError):
        write(broken, path)
    assert read(path).root == "old"
    assert [name.name for name in tmp_path.iterdir()] == ["m.jsonl", "m.sha256sums"] or len(
        list(tmp_path.iterdir())
    ) == 2
