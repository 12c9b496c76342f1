# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Source and target of which one lies in the other: refused by every pair of ends, and nothing is touched."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace

import engine
import pytest
from trees import touched, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy_task
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint import End, PodPlace
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError
from ansible_collections.kubeferry.pvc.plugins.module_utils._overlap import (
    require_apart,
    require_apart_by_name,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._route import Ends
from ansible_collections.kubeferry.pvc.plugins.module_utils._tree import Facts

KINDS = ("local", "busybox", "gnu")
INNER = "The target {target} lies in the source {source}: choose another path."
OUTER = "The source {source} lies in the target {target}: choose another path."
SAME = "{source} and {target} are the same directory: choose another target."


@pytest.fixture
def tree(tmp_path):
    """A directory with another in it, and links that lead there."""
    root = tmp_path / "volume"
    write(root, "inside/deeper/file", b"content")
    write(root, "beside/file", b"content")
    os.symlink(root / "inside/deeper", tmp_path / "link")
    os.symlink(root, tmp_path / "root")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("volume/inside", "volume", OUTER),
        ("volume", "volume/inside/deeper", INNER),
        ("volume/inside", "volume/inside", SAME),
        ("link", "volume", OUTER),
        ("root", "link", INNER),
        ("volume", "root", SAME),
    ],
)
@pytest.mark.parametrize("kinds", [(one, other) for one in KINDS for other in KINDS], ids="-".join)
def test_one_in_the_other_is_refused(boxes, tree, kinds, source, target, said):
    ends = [engine.end(boxes, kind, tree / path) for kind, path in zip(kinds, (source, target), strict=True)]
    before = touched(tree)
    with pytest.raises(UsageError) as caught:
        engine.copy(*ends, delete=True)
    assert str(caught.value) == said.format(source=ends[0].where, target=ends[1].where)
    assert touched(tree) == before


def hiding_above(end):
    facts = replace(end.facts(), above=())
    end.facts = lambda: facts
    return end


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [("volume/inside/deeper", "volume", OUTER), ("volume", "volume/inside/deeper", INNER)],
)
@pytest.mark.parametrize("kinds", [(one, other) for one in KINDS for other in KINDS], ids="-".join)
def test_one_in_the_other_is_refused_where_none_sees_what_is_above(boxes, tree, kinds, source, target, said):
    """As in a pod that has just a part of a volume mounted."""
    ends = [
        hiding_above(engine.end(boxes, kind, tree / path))
        for kind, path in zip(kinds, (source, target), strict=True)
    ]
    before = touched(tree)
    with pytest.raises(UsageError) as caught:
        engine.copy(*ends, delete=True)
    assert str(caught.value) == said.format(source=ends[0].where, target=ends[1].where)
    assert touched(tree) == before
    write(tree / "volume", "other/file", b"content")
    assert engine.whole(
        engine.copy(ends[0] if said == OUTER else ends[1], engine.local(tree / "volume/other"))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_copied(boxes, tree, kind):
    source, target = tree / "volume/beside", tree / "volume/inside/deeper"
    assert engine.whole(
        engine.copy(engine.end(boxes, kind, source), engine.end(boxes, kind, target), delete=True)
    )


def test_a_target_that_is_still_to_be_made_in_the_source(tree):
    before = touched(tree)
    with pytest.raises(UsageError, match="lies in the source"):
        engine.copy(engine.local(tree / "root"), engine.local(tree / "link/new/and/newer"))
    assert touched(tree) == before
    assert engine.whole(
        engine.copy(engine.local(tree / "volume/beside"), engine.local(tree / "volume/new/copy"))
    )


@pytest.mark.parametrize("kind", ["busybox", "gnu"])
def test_every_end_tells_the_same_of_the_directories_above(boxes, tree, kind):
    ours = engine.local(tree / "link").facts()
    theirs = engine.shell(boxes[kind], tree / "link").facts()
    assert (ours.volume, ours.above) == (theirs.volume, theirs.above)
    assert len(ours.above) == len((tree / "link").resolve().parents)
    assert engine.shell(boxes[kind], "/").facts().above == engine.local("/").facts().above == ()


def test_another_machine_has_other_inodes():
    source, target = Facts("dir", volume="one:7:2"), Facts("dir", volume="two:7:3", above=("two:7:2",))
    require_apart("source", "target", source, target)
    require_apart("source", "target", Facts("dir"), Facts("dir"))
    # The directories above may well be the same.
    here, there = (Facts("dir", volume=f"one:7:{inode}", above=("one:7:2",)) for inode in (3, 4))
    require_apart("source", "target", here, there)


@dataclass
class Cluster:
    """Its pods have the claim `files`: `b` just its directory `sub`, and `c` one that its name decides."""

    at: tuple[tuple[str, str], ...] = ()
    server: str = "one"

    def get_pod(self, namespace, name):
        mount = {"b": {"subPath": "sub"}, "c": {"subPathExpr": "$(NAME)"}}.get(name, {})
        mount |= {"name": "v", "mountPath": dict(self.at).get(name, "/mnt")}
        containers = [{"name": "main", "volumeMounts": [mount]}, {"name": "other", "volumeMounts": []}]
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "files"}}]
        return {"spec": {"volumes": volumes, "containers": containers}}


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (
            ("a", "main", "/mnt/x/y"),
            ("a", "main", "/mnt/x"),
            "The source x/y in claim ns/files at one lies in",
        ),
        (("a", "main", "/mnt/x"), ("b", "main", "/mnt"), ""),
        (("a", "main", "/mnt"), ("b", "main", "/mnt"), "The target sub in claim ns/files at one lies in"),
        (("b", "main", "/mnt"), ("a", "main", "/mnt/sub"), "are the same directory"),
        (("a", "main", "/mnt/x"), ("a", "main", "/mnt/xy"), ""),
        (("a", "main", "/mnt"), ("c", "main", "/mnt"), ""),
        (
            ("a", "main", "/srv/x"),
            ("a", "main", "/srv"),
            "The source /srv/x in pod ns/a, container main, at one",
        ),
        (("a", "main", "/srv"), ("a", "other", "/srv"), ""),
    ],
)
def test_what_no_inode_tells_the_names_do(source, target, said):
    ours, theirs = (PodPlace(Cluster(), "ns", pod, name).origin(path) for pod, name, path in (source, target))
    if said:
        with pytest.raises(UsageError, match=said):
            require_apart_by_name(str(ours), theirs)
    else:
        require_apart_by_name(str(ours), theirs)


@pytest.fixture
def copied(boxes, tmp_path, monkeypatch):
    """Runs the task. An end is staged, or the name of a pod and a path in the claim.

    Two pods have the claim, on two machines: so there are two trees that are alike.
    """
    places = tuple((name, str(tmp_path / name)) for name in ("a", "d"))
    for _name, path in places:
        write(path, "x/y/file", b"content")
        write(path, "beside/file", b"another")
    staging = tmp_path / "staging", tmp_path / "m.jsonl"

    def run(*names):
        ends = []
        for name in names:
            if name is None:
                ends.append(End(engine.staged(*staging, as_source=not ends)))
            else:
                path = tmp_path.joinpath(*name)
                ends.append(
                    End(engine.shell(boxes["gnu"], path), PodPlace(Cluster(places), "ns", name[0], "main"))
                )
        monkeypatch.setattr(_copy_task, "opened_ends", lambda *_arguments: nullcontext(Ends(*ends)))
        given = dict.fromkeys(("files", "include", "exclude", "baseline", "label", "report", "closed_routes"))
        given |= {"checksum": "sha256", "metadata": "strict", "on_change": "fail", "transport": "tar"}
        given |= {
            "delete": True,
            "retries": 0,
            "reread": True,
            "route": "stream",
            "source": {"manifest": None},
            "target": {"manifest": None},
        }
        return _copy_task.run(given, check_mode=False)

    return run


def test_one_claim_in_two_pods_is_refused(copied, tmp_path):
    before = touched(tmp_path)
    with pytest.raises(
        UsageError, match="The source x/y in claim ns/files at one lies in the target x in claim"
    ):
        copied(("a", "x/y"), ("d", "x"))
    assert touched(tmp_path) == before
    assert copied(("a", "x"), ("d", "beside"))["parity"]


def test_two_hops_over_staging_are_refused(copied, tmp_path):
    assert copied(("a", "x/y"), None)["parity"]
    before = touched(tmp_path / "d")
    for outer in ("x", ""):
        with pytest.raises(UsageError, match=r"^The source x/y in claim ns/files at one lies in the target"):
            copied(None, ("d", outer))
    (tmp_path / "d/x/y/inside").mkdir()
    with pytest.raises(
        UsageError, match=r"^The target x/y/inside in claim ns/files at one lies in the source x/y"
    ):
        copied(None, ("d", "x/y/inside"))
    (tmp_path / "d/x/y/inside").rmdir()
    assert before.keys() == touched(tmp_path / "d").keys()


def test_staged_files_may_be_brought_back(copied, tmp_path):
    assert copied(("a", "x"), None)["parity"]
    (tmp_path / "d/x/y/file").write_text("lost")
    assert copied(None, ("d", "x"))["parity"]
    assert (tmp_path / "d/x/y/file").read_text() == "content"
    assert copied(None, ("d", "beside"))["parity"]
