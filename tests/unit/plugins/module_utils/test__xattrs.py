# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended attributes, POSIX ACLs and capabilities over every pair of ends, on real files."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time

import engine
import pytest
from toolbox import ATTR, Box, found
from trees import write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _xattrs
from ansible_collections.kubeferry.pvc.plugins.module_utils._comparison import not_compared
from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import FILE, Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    ConnectionLost,
    EndpointError,
    ProtocolError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest import Manifest
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import Selection
from ansible_collections.kubeferry.pvc.plugins.module_utils._tar import ByteStream
from ansible_collections.kubeferry.pvc.plugins.module_utils._xattrs import copied, dump, dumped, pack, unpack

ODD = b"na\nme\\x=y \xff"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep
HOLDING = [("local", "local"), ("gnu", "local"), ("local", "gnu"), ("gnu", "gnu")]


@pytest.fixture
def source(tmp_path):
    """A tree with attributes on files and directories, under names that need quoting."""
    root = tmp_path / "source"
    for name in (b"plain", ODD, b"d/inside", b"read only", b"program", b"shared/inherits"):
        write(root, name, name)
    os.setxattr(root / "plain", "user.text", b"a text")
    os.setxattr(root / "plain", "user.empty", b"")
    os.setxattr(os.fsencode(root) + b"/" + ODD, b"user.e=q\nual\\", bytes(range(256)))
    os.setxattr(root / "d", "user.of a directory", b"\0")
    os.setxattr(root / "read only", "user.kept", b"x" * 3000)
    (root / "read only").chmod(0o444)
    os.setxattr(root, "user.of the root", b"\0\n\n")
    rules = {"plain": "u:1234:rw", "shared": "d:g:4321:r", "d": "g:99:x", ".": "u:1234:rwx,d:u:1234:rwx"}
    for name, rule in rules.items():
        subprocess.run([found("setfacl", "acl"), "-m", rule, str(root / name)], check=True, timeout=20)
    if os.geteuid() == 0:
        os.setxattr(root / "program", "security.capability", CAPABILITY)
    return root


def attributes(root):
    """Every attribute of `root` and below it, and the modes that ACLs are a part of, read without the engine."""
    seen = {}
    for folder, _folders, files in os.walk(os.fsencode(root)):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            held = {each: os.getxattr(path, each) for each in os.listxattr(path)}
            seen[os.path.relpath(path, os.fsencode(root))] = (held, oct(os.lstat(path).st_mode))
    return seen


@pytest.mark.parametrize("kinds", HOLDING, ids="-".join)
def test_attributes_arrive(boxes, source, tmp_path, kinds):
    target = tmp_path / "target"
    target.mkdir()
    outcome = engine.copy(engine.end(boxes, kinds[0], source), engine.end(boxes, kinds[1], target))
    assert engine.whole(outcome)
    assert attributes(target) == attributes(source)
    assert not engine.copy(engine.end(boxes, kinds[0], source), engine.end(boxes, kinds[1], target)).plan


@pytest.mark.parametrize("kinds", HOLDING, ids="-".join)
def test_attributes_that_differ_are_mended_and_others_removed(boxes, source, tmp_path, kinds):
    target = tmp_path / "target"
    target.mkdir()
    engine.copy(engine.end(boxes, kinds[0], source), engine.end(boxes, kinds[1], target))
    os.setxattr(target / "plain", "user.text", b"another")
    os.setxattr(target / "d", "user.extra", b"x")
    os.setxattr(target, "user.extra", b"x")
    os.removexattr(target, "system.posix_acl_access")
    os.removexattr(os.fsencode(target) + b"/" + ODD, b"user.e=q\nual\\")
    subprocess.run([found("setfacl", "acl"), "-b", str(target / "plain")], check=True, timeout=20)
    planned = engine.copy(
        engine.end(boxes, kinds[0], source), engine.end(boxes, kinds[1], target), check=True
    )
    assert {(c.path, c.action) for c in planned.plan.changes()} == {
        (b"plain", "metadata"),
        (b"d", "metadata"),
        (b".", "metadata"),
        (ODD, "metadata"),
    }
    assert engine.whole(engine.copy(engine.end(boxes, kinds[0], source), engine.end(boxes, kinds[1], target)))
    assert attributes(target) == attributes(source)


@pytest.mark.parametrize("kind", ["local", "gnu"])
def test_what_a_default_acl_of_the_target_adds_is_taken_away(boxes, tmp_path, kind):
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run([found("setfacl", "acl"), "-m", "d:u:1234:rwx", str(target)], check=True, timeout=20)
    write(tmp_path / "source", "d/file", b"x", mode=0o640)
    outcome = engine.copy(engine.local(tmp_path / "source"), engine.end(boxes, kind, target), files=["d"])
    assert engine.whole(outcome)
    assert attributes(target / "d") == attributes(tmp_path / "source/d")


@pytest.mark.parametrize("origin", ["local", "gnu"])
def test_an_end_that_cannot_hold_them_is_told_of_each_path(boxes, source, tmp_path, origin):
    target = tmp_path / "target"
    target.mkdir()
    outcome = engine.copy(engine.end(boxes, origin, source), engine.end(boxes, "busybox", target))
    assert not engine.whole(outcome)
    assert engine.whole(outcome, metadata="report")
    assert outcome.parity.metadata["plain"]["xattrs"] == [
        "system.posix_acl_access, user.empty, user.text",
        "",
    ]
    held = {path for path, (xattrs, _mode) in attributes(source).items() if xattrs}
    assert len(outcome.parity.metadata) == len(held)
    assert outcome.parity.counts["mismatched"] == outcome.parity.counts["missing"] == 0


@pytest.mark.parametrize(
    ("kinds", "named"),
    [(("local", "busybox"), ["xattrs"]), (("busybox", "local"), ["xattrs"]), (("gnu", "local"), [])],
    ids=str,
)
def test_an_end_that_cannot_tell_what_it_has_is_compared_in_all_else(boxes, tmp_path, kinds, named):
    """What the target gives to all that is made there shows to nobody who has no tool for it."""
    here, there = (engine.end(boxes, kind, tmp_path) for kind in kinds)
    assert not_compared(here, there, Manifest(), Selection(), "strict") == named


@pytest.mark.parametrize("at_the_target", [False, True])
def test_a_file_of_this_machine_that_does_not_tell_its_attributes_is_named(
    tmp_path, monkeypatch, at_the_target
):
    """As one on XFS whose names of attributes are longer than the kernel can list."""
    for name in ("source", "target"):
        write(tmp_path / name, "file", b"x", mtime=10**18)
    told = os.listxattr

    def refuse(path, **options):
        if os.path.samefile(path, tmp_path / ("target" if at_the_target else "source") / "file"):
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return told(path, **options)

    monkeypatch.setattr(os, "listxattr", refuse)
    ends = engine.local(tmp_path / "source"), engine.local(tmp_path / "target")
    reason = "its extended attributes: argument list too long"
    if at_the_target:
        outcome = engine.copy(*ends)
        assert outcome.parity.unreadable == {"file": reason}
        assert not engine.whole(outcome)
    else:
        with pytest.raises(
            EndpointError, match=rf"^file in .*/source on this machine can't be used .file: {reason}"
        ):
            engine.copy(*ends)
        assert engine.whole(engine.copy(*ends, exclude=["file"]))


def test_they_travel_in_the_manifest_of_a_staging_area(boxes, source, tmp_path):
    staging, manifest, target = tmp_path / "staging", tmp_path / "m.jsonl", tmp_path / "target"
    target.mkdir()
    first = engine.copy(engine.shell(boxes["gnu"], source), engine.staged(staging, manifest, as_source=False))
    assert engine.whole(first)
    assert not any(xattrs for xattrs, _mode in attributes(staging).values())
    second = engine.copy(engine.staged(staging, manifest, as_source=True), engine.shell(boxes["gnu"], target))
    assert engine.whole(second)
    assert attributes(target) == attributes(source)


def test_a_staging_area_that_nobody_looked_at_attributes_for_says_so(boxes, source, tmp_path):
    """Also of a part of it, which one has brought who couldn't tell them."""
    staging, manifest, target = tmp_path / "staging", tmp_path / "m.jsonl", engine.local(tmp_path / "target")

    def pull(kind, **chosen):
        engine.copy(
            engine.shell(boxes[kind], source), engine.staged(staging, manifest, as_source=False), **chosen
        )
        staged = engine.staged(staging, manifest, as_source=True)
        assert engine.whole(engine.copy(staged, target))
        return not_compared(staged, target, Manifest(), Selection(), "strict")

    assert pull("busybox", files=["plain"]) == ["xattrs"]
    assert pull("gnu", files=["d"]) == ["xattrs"]
    assert pull("gnu", files=["d", "plain"]) == []


def test_the_dump_of_getfattr_is_read_as_it_is_written():
    xattrs = ((b"system.posix_acl_access", b"\x02"), (b"user.a=b\n\\", b""), (b"user.z", bytes(range(256))))
    files = [(b"./" + ODD, xattrs), (b"./none", ())]
    assert list(dumped(ByteStream([dump(files) + b"# end\n"]))) == files
    assert unpack(pack(xattrs)) == xattrs


def test_others_are_left_out_and_named():
    attributes = ("security.selinux", "trusted.SGI_ACL_FILE", "trusted.overlay.opaque", "user.a")
    lines = "".join(f"{name}=0x01\n" for name in attributes)
    text = f"# file: x\n{lines}\n# end\n".encode()
    manifest = Manifest([Entry(b"x", FILE, 0, 0o644, 0, 0, 0)])
    manifest.set_xattrs(dumped(ByteStream([text])))
    assert manifest.get(b"x").xattrs == ((b"user.a", b"\1"),)
    assert manifest.uncopied == {"trusted.overlay.opaque"}
    for number in range(1000):
        copied(b"trusted.%d" % number, manifest.uncopied)
    assert len(manifest.uncopied) == 100


@pytest.mark.parametrize("kind", ["local", "gnu"])
def test_the_source_of_a_copy_tells_which_others_it_has(boxes, source, tmp_path, kind, monkeypatch):
    """Also where the copy was proven before. Only root may make such attributes, so these stand for them."""
    monkeypatch.setattr(_xattrs, "COPIED", re.compile(rb"user\.(?!of a directory).*|system\..*", re.DOTALL))
    (tmp_path / "target").mkdir()
    time.sleep(0.05)

    def copy():
        ends = engine.end(boxes, kind, source), engine.local(tmp_path / "target")
        return engine.copy(*ends, proofs=str(tmp_path / "proofs"))

    named = {"security.capability"} if os.geteuid() == 0 else set()
    first, second = copy(), copy()
    assert engine.whole(first)
    assert second.proven
    for outcome in (first, second):
        assert outcome.source.uncopied == {"user.of a directory", *named}
    ends = engine.end(boxes, kind, source), engine.local(tmp_path / "target")
    assert not_compared(*ends, second.source, Selection(), "strict") == sorted(first.source.uncopied)
    assert not_compared(*ends, second.source, Selection(), "ignore") == []


@pytest.mark.parametrize(
    "text",
    [
        b"user.a=0x01\n# end\n",
        b"# file: x\nuser.a=0x0\n# end\n",
        b'# file: x\nuser.a="b"\n# end\n',
        b"x" * 300_000,
    ],
)
def test_what_getfattr_never_prints_is_refused(text):
    with pytest.raises((ProtocolError, ConnectionLost)):
        list(dumped(ByteStream([text])))


def test_a_dump_that_is_cut_is_noticed():
    with pytest.raises(ConnectionLost):
        list(dumped(ByteStream([b"# file: x\nuser.a=0x01\n"])))


def test_busybox_with_the_tools_for_attributes(source, tmp_path):
    box = Box(str(tmp_path / "box"), "busybox")
    for tool in ATTR:
        os.symlink(found(tool, "attr"), f"{box.place}/{tool}")
    target = tmp_path / "target"
    target.mkdir()
    assert engine.whole(engine.copy(engine.shell(box, source), engine.shell(box, target)))
    assert attributes(target) == attributes(source)
