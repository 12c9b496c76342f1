# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks: options in, results and sentences out, with directories of this machine as both ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket

import engine
import pytest
import trees
from trees import snapshot, touched, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy_task, _manifest_task, _verify_task
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    EndpointError,
    KubeferryError,
    ManifestError,
    UsageError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest_file import read
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest_file import write as write_manifest

DEFAULTS = {
    "files": None,
    "include": None,
    "exclude": None,
    "delete": False,
    "baseline": None,
    "checksum": "sha256",
    "transport": "auto",
    "route": "stream",
    "closed_routes": None,
    "metadata": "strict",
    "on_change": "fail",
    "reread": True,
    "extra": "report",
    "retries": 3,
    "report": None,
    "label": None,
    "manifest": None,
    "manifest_digest": None,
    "dest": None,
}


@pytest.fixture
def ends(tmp_path):
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    write(tmp_path / "source", "10", b"ten")
    write(tmp_path / "source", "a/11", b"eleven")
    write(tmp_path / "source", "a/51", b"fifty-one")
    return tmp_path / "source", tmp_path / "target"


def params(source, target=None, **options):
    given = {**DEFAULTS, **options}
    for name, path in (("source", source), ("target", target)):
        given[name] = {
            "path": str(path) if path is not None else None,
            "manifest": options.get(f"{name}_manifest"),
            "manifest_digest": options.get(f"{name}_digest"),
        }
    return given


def copy(source, target, *, check=False, **options):
    return _copy_task.run(params(source, target, **options), check_mode=check)


def sentence_of(call, *arguments, kind=KubeferryError, **options):
    """What the call raises: one line that ends with a full stop."""
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    said = str(caught.value)
    assert re.fullmatch(r"[^\n]+\.", said), said
    assert said.count(". ") <= 1, said
    return said


@pytest.mark.parametrize("delete", [False, True])
def test_what_only_the_target_has_is_counted_before_anything_is_done(ends, delete):
    (ends[1] / "more").mkdir(parents=True)
    (ends[1] / "more" / "file").write_text("x")
    first, second = copy(*ends, delete=delete), copy(*ends, delete=delete)
    left = 0 if delete else 2
    assert (first["planned"]["extra"], second["planned"]["extra"]) == (2, left)
    assert first["counts"]["extra"] == second["counts"]["extra"] == left


def test_the_files_of_the_procedure(ends):
    result = copy(*ends, files=["10", "a/11", "a/51"])
    assert (result["changed"], result["parity"]) == (True, True)
    assert (result["counts"]["matched"], result["files"], result["bytes"]) == (4, 3, 18)
    assert result["planned"] == {"create": 4, "replace": 0, "metadata": 0, "delete": 0, "extra": 0}
    assert (result["bytes_planned"], result["bytes_moved"], result["retries"]) == (18, 18, 0)
    assert "msg" not in result
    json.dumps(result)
    again = copy(*ends, files=["10", "a/11", "a/51"])
    assert (again["changed"], again["parity"], again["bytes_moved"]) == (False, True, 0)


def test_check_mode_and_diff_tell_what_would_be_done(ends):
    source, target = ends
    write(target, "10", b"old")
    write(target, "extra\nname", b"x")
    before = touched(target)
    planned = copy(*ends, check=True, delete=True)
    assert touched(target) == before
    assert (planned["changed"], planned["parity"]) == (True, False)
    assert "msg" not in planned
    assert "10 (file, differs in content" in planned["diff"]["before"]
    assert "extra\\nname" in planned["diff"]["before"]
    assert "a/11 (file, as at the source)" in planned["diff"]["after"]
    done = copy(*ends, delete=True)
    assert done["planned"] == planned["planned"]
    assert unlike(source, target) == {}


def test_lists_in_results_are_bounded(ends):
    for number in range(300):
        write(ends[0], f"many/{number}", b"")
    result = copy(*ends, check=True)
    assert (len(result["missing"]), result["counts"]["missing"], result["truncated"]) == (100, 305, True)
    assert result["diff"]["after"].count("\n") == 101
    assert (
        "… and 205 more paths" in result["diff"]["after"] or "… and 206 more paths" in result["diff"]["after"]
    )


def test_the_report_keeps_every_hop(ends, tmp_path):
    report = str(tmp_path / "made" / "report.json")
    copy(*ends, report=report, label="first", files=["10"])
    _verify_task.run(params(*ends, report=report, label="second"), check_mode=False)
    written = json.loads(trees.content_of(report))
    assert (written["schema"], written["parity"]) == (1, False)
    assert written["hops"]["first"]["parity"] is True
    assert written["hops"]["second"]["missing"] == ["a", "a/11", "a/51"]
    copy(*ends, report=report, label="second")
    assert json.loads(trees.content_of(report))["parity"] is True
    copy(*ends, report=str(tmp_path / "none.json"), check=True)
    assert not (tmp_path / "none.json").exists()


def test_verify_finds_and_names_each_difference(ends):
    target = ends[1]
    copy(*ends)
    assert _verify_task.run(params(*ends), check_mode=False)["parity"] is True
    status = os.stat(target / "10")
    write(target, "10", b"Ten", mtime=status.st_mtime_ns)
    (target / "a/11").unlink()
    (target / "a/51").chmod(0o600)
    write(target, "extra", b"x")
    before = touched(target)
    result = _verify_task.run(params(*ends, metadata="strict", extra="fail"), check_mode=False)
    assert touched(target) == before
    assert (result["parity"], result["changed"]) == (False, False)
    assert result["missing"] == ["a/11"]
    assert {"path": "10", "differs": ["content"]} in result["mismatched"]
    assert "a/51" in {item["path"] for item in result["metadata_differences"]}
    assert result["extra"] == ["extra"]
    for name in ("10", "a/11", "extra"):
        assert name in result["msg"]


def test_a_manifest_stands_for_its_tree(ends, tmp_path):
    source, target = ends
    dest = str(tmp_path / "m.jsonl")
    made = _manifest_task.run(params(source, dest=dest), check_mode=False)
    assert (made["changed"], made["files"], made["count"]) == (True, 3, 5)
    assert _manifest_task.run(params(source, dest=dest), check_mode=False)["changed"] is False
    copy(*ends)
    assert _verify_task.run(params(None, target, manifest=dest), check_mode=False)["parity"] is True
    assert (
        _verify_task.run(params(None, target, manifest=dest, files=["a/11"]), check_mode=False)["parity"]
        is True
    )
    write(target, "10", b"Ten", mtime=os.stat(target / "10").st_mtime_ns)
    result = _verify_task.run(params(None, target, manifest=dest), check_mode=False)
    assert result["mismatched"] == [{"path": "10", "differs": ["content"]}]


def test_the_tree_itself_is_not_extra_to_a_manifest_of_some_files(ends, tmp_path):
    source, target = ends
    dest, staged = str(tmp_path / "m.jsonl"), {"source_manifest": str(tmp_path / "staged.jsonl")}
    some = {"files": ["10", "a"]}
    _manifest_task.run(params(source, dest=dest, **some), check_mode=False)
    copy(source, tmp_path / "staging", target_manifest=staged["source_manifest"], **some)
    first = copy(tmp_path / "staging", target, **staged)
    assert (first["changed"], first["parity"], first["extra"]) == (True, True, [])
    assert copy(tmp_path / "staging", target, **staged)["changed"] is False
    for given in ({"manifest": dest}, staged):
        ends_of = (None if "manifest" in given else tmp_path / "staging"), target
        result = _verify_task.run(params(*ends_of, extra="fail", **given), check_mode=False)
        assert (result["parity"], result["extra"]) == (True, [])


def test_what_a_staged_part_does_not_tell_of_is_not_deleted(ends, tmp_path):
    source, target = ends
    staged = {"source_manifest": str(tmp_path / "staged.jsonl"), "delete": True}
    copy(source, tmp_path / "staging", target_manifest=staged["source_manifest"], files=["a/11"])
    for other in ("10", "a/old"):
        write(target, other)
    before = snapshot(target)
    for check in (True, False):
        for options, part in (({}, "the tree"), ({"files": ["a"]}, "a")):
            said = sentence_of(
                copy, tmp_path / "staging", target, kind=UsageError, check=check, **staged, **options
            )
            assert f"tells only of a part of {part}, and" in said
    assert snapshot(target) == before
    assert copy(tmp_path / "staging", target, files=["a/11"], **staged)["parity"] is True
    assert (target / "a/old").exists()
    copy(source, tmp_path / "staging", target_manifest=staged["source_manifest"])
    assert copy(tmp_path / "staging", target, **staged)["planned"]["delete"] == 1


@pytest.mark.parametrize(("metadata", "named"), [("strict", ["xattrs"]), ("ignore", [])])
def test_what_the_source_cannot_tell_is_named(ends, tmp_path, metadata, named):
    source, target = ends
    copy(source, target)
    dest = str(tmp_path / "manifest")
    _manifest_task.run(params(source, dest=dest), check_mode=False)
    seeing = _verify_task.run(params(None, target, manifest=dest, metadata=metadata), check_mode=False)
    header, *rest = (tmp_path / "manifest").read_text().splitlines(keepends=True)
    (tmp_path / "manifest").write_text(
        "".join([json.dumps({**json.loads(header), "xattrs": False}) + "\n", *rest])
    )
    blind = _verify_task.run(params(None, target, manifest=dest, metadata=metadata), check_mode=False)
    assert (seeing["not_compared"], blind["not_compared"]) == ([], named)


def test_one_name_of_a_link_group_is_verified_by_itself(ends, tmp_path):
    source, target = ends
    os.link(source / "10", source / "twin")
    dest = str(tmp_path / "m.jsonl")
    _manifest_task.run(params(source, dest=dest), check_mode=False)
    copy(*ends, files=["twin"])
    assert (
        _verify_task.run(params(None, target, manifest=dest, files=["twin"]), check_mode=False)["parity"]
        is True
    )


# -- sentences ------------------------------------------------------------------------------------


def test_a_source_that_is_not_there(ends, tmp_path):
    said = sentence_of(copy, tmp_path / "nowhere", ends[1], kind=EndpointError)
    assert said == f"{tmp_path}/nowhere on this machine doesn't exist: correct the path."
    assert touched(ends[1]).keys() == {b"."}


@pytest.mark.parametrize("which", ["source", "target"])
def test_an_end_that_is_a_file(ends, which):
    places = {"source": ends[0], "target": ends[1], which: ends[0] / "10"}
    said = sentence_of(copy, places["source"], places["target"], kind=EndpointError)
    assert (
        said
        == f"{places[which]} on this machine isn't a directory: give the directory and name the file in files."
    )


def test_an_end_below_a_file(ends):
    said = sentence_of(copy, ends[0] / "10" / "below", ends[1], kind=EndpointError)
    assert f"{ends[0]}/10/below" in said
    assert "Not a directory" in said


def test_the_same_directory_twice(ends, tmp_path):
    os.symlink(ends[0], tmp_path / "alias")
    said = sentence_of(copy, ends[0], tmp_path / "alias", kind=UsageError)
    assert said.endswith("are the same directory: choose another target.")
    assert str(ends[0]) in said


@pytest.mark.parametrize("inner", ["source/inside", "source/a"])
def test_a_target_inside_its_source(ends, tmp_path, inner):
    before = touched(ends[0])
    said = sentence_of(copy, ends[0], tmp_path / inner, kind=UsageError)
    assert said.endswith(f"lies in the source {ends[0]} on this machine: choose another path.")
    assert touched(ends[0]) == before
    said = sentence_of(copy, ends[0] / "a", ends[0], kind=UsageError)
    assert said.endswith(f"lies in the target {ends[0]} on this machine: choose another path.")
    assert touched(ends[0]) == before


def test_files_that_are_not_there(ends):
    said = sentence_of(copy, *ends, files=["10", "a/99", "b", "new\nline"], kind=EndpointError)
    assert said == (f"a/99, b, new\\nline isn't in {ends[0]} on this machine: correct the list of files.")
    assert set(snapshot(ends[1])) == {b"."}


def test_a_listed_file_below_a_file(ends):
    said = sentence_of(copy, *ends, files=["10/below"], kind=KubeferryError)
    assert "10" in said
    assert str(ends[0]) in said


@pytest.mark.parametrize("kind", ["gnu", "busybox"])
def test_a_listed_file_below_a_file_in_a_pod(ends, boxes, kind):
    with pytest.raises(EndpointError, match=r"^10/below isn't in .* box: correct the list of files"):
        engine.copy(engine.shell(boxes[kind], ends[0]), engine.local(ends[1]), files=["10/below"])


def test_a_listed_file_below_a_link(ends):
    os.symlink("a", ends[0] / "link")
    said = sentence_of(copy, *ends, files=["link/11"], kind=KubeferryError)
    assert "link" in said
    assert set(snapshot(ends[1])) == {b"."}


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"files": []}, "files: the list is empty: "),
        ({"files": ["../x"]}, "files: '../x' holds '..', "),
        ({"files": ["a/../../x"]}, "files: 'a/../../x' holds '..', "),
        ({"files": ["/etc/passwd"]}, "files: '/etc/passwd' isn't below "),
        ({"files": [""]}, "files: '' isn't a file name: "),
        ({"files": [".kubeferry"]}, "files: .kubeferry is the collection's own work directory: "),
        ({"include": [""]}, "include: '' matches nothing: "),
        ({"exclude": ["[z-a]"]}, "exclude: '[z-a]' isn't a valid pattern "),
        ({"transport": "rsync"}, "transport: rsync can't be used here, since "),
    ],
    ids=str,
)
def test_options_that_make_no_sense(ends, options, start):
    said = sentence_of(copy, *ends, kind=UsageError, **options)
    assert said.startswith(start)
    assert set(snapshot(ends[1])) == {b"."}


def test_endpoints_that_make_no_sense(ends):
    given = params(*ends)
    for change, said in {
        "path": "source: no path and no namespace: give the directory, or the pod or claim that holds it.",
    }.items():
        broken = {**given, "source": {**given["source"], change: None}}
        assert sentence_of(_copy_task.run, broken, check_mode=False, kind=UsageError) == said
    for key in ("pod", "pvc", "container"):
        broken = {**given, "target": {**given["target"], key: "x"}}
        assert sentence_of(_copy_task.run, broken, check_mode=False, kind=UsageError) == (
            f"target: {key} needs a namespace: add target.namespace."
        )


@pytest.mark.parametrize("option", ["source", "target"])
@pytest.mark.parametrize(("key", "route"), [("pod", "stream"), ("pvc", "stream"), ("pvc", "mount")])
def test_a_manifest_of_what_is_in_a_cluster(ends, option, key, route):
    given = params(*ends, route=route)
    claims = ("source", "target") if route == "mount" else (option,)
    for each in claims:
        given[each] |= {"namespace": "ns", key: "x", "path": "/x"}
    given[option] |= {"manifest": "/no/such.jsonl", "manifest_digest": "0"}
    given |= {"host": "https://127.0.0.1:1", "api_key": "t"}
    assert sentence_of(_copy_task.run, given, check_mode=False, kind=UsageError) == (
        f"{option}: manifest is for a directory on this machine: leave it out for a pod or claim."
    )


def test_a_manifest_that_is_none(ends, tmp_path):
    write(tmp_path, "m.jsonl", b"nonsense\n")
    said = sentence_of(
        _verify_task.run,
        params(None, ends[1], manifest=str(tmp_path / "m.jsonl")),
        check_mode=False,
        kind=ManifestError,
    )
    assert said == f"{tmp_path}/m.jsonl, line 1, isn't a line of a manifest: write it anew with pvc_manifest."


def test_a_staged_manifest_is_told_from_any_other_by_its_digest(ends, tmp_path):
    source, target = ends
    staging, manifest = tmp_path / "staging", str(tmp_path / "m.jsonl")
    staged = {"source_manifest": manifest, "source_digest": "0" * 64}
    first = copy(source, staging, target_manifest=manifest)
    said = sentence_of(copy, staging, target, kind=ManifestError, **staged)
    assert said.startswith(f"The manifest {manifest} isn't the one that the files were staged with: ")
    against = params(None, target, manifest=manifest, manifest_digest="0" * 64)
    assert sentence_of(_verify_task.run, against, check_mode=False, kind=ManifestError) == said
    assert set(snapshot(target)) == {b"."}
    staged["source_digest"] = first["manifest_digest"]
    second = copy(staging, target, **staged)
    assert (second["parity"], second["manifest_digest"]) == (True, None)
    against["manifest_digest"] = first["manifest_digest"]
    assert _verify_task.run(against, check_mode=False)["parity"] is True
    said = sentence_of(copy, source, staging, kind=UsageError, target_manifest=manifest, target_digest="00")
    assert said == "target: manifest_digest is for a source: leave it out."


def test_a_staging_directory_of_another_source_is_replaced_or_refused_and_never_mixed(ends, tmp_path):
    source, target = ends
    other, staging, manifest = tmp_path / "other", tmp_path / "staging", str(tmp_path / "m.jsonl")
    write(other, "new", b"of the other")
    assert copy(source, staging, target_manifest=manifest)["parity"]
    before = touched(staging)
    said = sentence_of(copy, other, staging, kind=UsageError, target_manifest=manifest)
    assert said == (
        f"{staging} on this machine holds files of {source} on this machine: choose another directory, or set delete "
        "to true to have them replaced."
    )
    assert touched(staging) == before
    assert copy(other, staging, target_manifest=manifest, files=["new"], delete=True)["parity"]
    assert {entry.path for entry in read(manifest)} == {b"new"}
    said = sentence_of(copy, staging, target, kind=EndpointError, source_manifest=manifest)
    assert "in the staging directory, but not in its manifest" in said
    assert copy(other, staging, target_manifest=manifest, delete=True)["parity"]
    assert copy(staging, target, source_manifest=manifest)["parity"]
    assert unlike(other, target) == {}


def test_what_changed_while_it_was_staged_is_no_part_of_a_comparison_with_the_manifest(ends, tmp_path):
    source, target = ends
    manifest = str(tmp_path / "m.jsonl")
    copy(source, tmp_path / "staging", target_manifest=manifest)
    copy(source, target)
    whole = read(manifest)
    whole.remove([b"10"])
    whole.restless = [b"10"]
    write_manifest(whole, manifest)
    against = params(None, target, manifest=manifest, extra="fail")
    result = _verify_task.run(against, check_mode=False)
    assert (result["parity"], result["unreadable"]) == (True, [])
    assert result["changed_at_source"] == [{"path": "10", "what": "changed"}]
    staged = {"source_manifest": manifest, "metadata": "ignore"}
    failed = copy(tmp_path / "staging", target, **staged)
    assert "1 unreadable (10)" in failed["msg"]
    forgiven = copy(tmp_path / "staging", target, on_change="report", **staged)
    assert (forgiven["parity"], "msg" in forgiven) == (False, False)
    assert forgiven["warnings"] == [f"{tmp_path}/staging on this machine changed while it was copied: 10."]


def test_a_report_that_is_something_else(ends, tmp_path):
    for content in (b"precious", b"[]", b"{}", b'{"schema": 99, "hops": {}}'):
        write(tmp_path, "report.json", content)
        said = sentence_of(copy, *ends, report=str(tmp_path / "report.json"), kind=UsageError)
        assert said.startswith(f"report: {tmp_path}/report.json exists and isn't a report: ")
        assert trees.content_of(tmp_path / "report.json") == content


def test_a_copy_that_is_not_whole_says_what_is_missing(ends):
    os.mkdir(ends[1] / "10")
    write(ends[1], "10/keep", b"x")
    result = copy(*ends, exclude=["keep"], retries=0)
    assert result["parity"] is False
    assert result["msg"].startswith(
        f"{ends[1]} on this machine isn't a whole copy of {ends[0]} on this machine: 1 different (10). What "
    )


def of_nobody(place):
    """A source of root's, and a target of an ordinary user's."""
    write(place / "source", "a/10", b"ten")
    (place / "target").mkdir()
    os.chown(place / "target", engine.NOBODY, engine.NOBODY)
    return place / "source", place / "target"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_copy_by_a_user_who_can_not_set_owners_says_what_to_do(place):
    ends = of_nobody(place)
    said = engine.in_child(lambda: copy(*ends)["msg"], uid=engine.NOBODY)
    assert re.search(r": 3 different in owner and group \(., a, a/10\)\. All contents match, ", said)
    assert said.endswith(
        f"match, and user {engine.NOBODY}, as whom they were copied, can't set owners: set metadata to report, or copy "
        "as root."
    )


def test_a_copy_that_only_lacks_a_socket_says_what_to_do(ends):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(ends[0] / "socket"))
        said = copy(*ends)["msg"]
    assert said.endswith(
        "All contents match, and what is missing can't be made there: set metadata to report."
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_report_where_none_can_be_made_is_refused_before_the_copy(place):
    ends = of_nobody(place)

    def work():
        return sentence_of(copy, *ends, report=str(ends[0] / "new" / "report.json"), kind=UsageError)

    said = engine.in_child(work, uid=engine.NOBODY)
    assert said == (
        f"report: {ends[0]}/new/report.json can't be written, since user {engine.NOBODY} can't make files in "
        f"{ends[0]}: choose another path."
    )
    assert set(snapshot(ends[1])) == {b"."}


@pytest.mark.parametrize("name", ["", None])
def test_a_manifest_without_a_name(ends, name):
    with pytest.raises(UsageError, match=r"^manifest names no file: give the file, or a source in its place"):
        _verify_task.run({**params(None, ends[1], manifest=name), "source": None}, check_mode=False)


def test_a_path_with_a_line_end_is_told_on_one_line(ends, boxes):
    odd = ends[0].with_name("a\nb")
    with pytest.raises(EndpointError, match=r"a\\nb on this machine doesn't exist"):
        copy(odd, ends[1])
    with pytest.raises(EndpointError, match=r"a\\nb in the gnu box doesn't exist"):
        engine.copy(engine.shell(boxes["gnu"], odd), engine.local(ends[1]))
    with pytest.raises(ManifestError, match=r"a\\nb can't be read"):
        _verify_task.run({**params(None, ends[1], manifest=str(odd)), "source": None}, check_mode=False)


@pytest.mark.parametrize("changes", [True, False])
def test_a_report_that_can_not_be_written_says_that_the_copy_was_made(ends, tmp_path, changes):
    if not changes:
        copy(*ends)
    with pytest.raises(UsageError) as caught:
        copy(*ends, report=str(tmp_path / "new" / ("n" * 250)))
    assert str(caught.value).endswith(
        f"can't be written (File name too long): choose another path. The copy to {ends[1]} on this "
        "machine was made all the same."
    )
    assert caught.value.changed is changes
    assert (ends[1] / "10").read_bytes() == b"ten"


@pytest.mark.parametrize("checksum", ["sha256", "md5"])
def test_a_manifest_by_the_name_of_its_digests_is_refused_before_anything_is_done(ends, tmp_path, checksum):
    for path in (tmp_path / f"m.{checksum}sums", tmp_path / "m.d" / f"m.{checksum}sums"):
        words = f"The manifest {path} can't have this name, which its digests have"
        with pytest.raises(ManifestError, match=words):
            _manifest_task.run(params(ends[0], dest=str(path), checksum=checksum), check_mode=False)
        with pytest.raises(ManifestError, match=words):
            copy(*ends, target_manifest=str(path), checksum=checksum)
        assert not path.exists()
    assert set(snapshot(ends[1])) == {b"."}


@pytest.mark.parametrize("again", [False, True])
def test_what_is_no_manifest_is_neither_a_baseline_nor_replaced_by_a_manifest(ends, tmp_path, again):
    if again:
        copy(*ends)
    notes = tmp_path / "notes"
    notes.write_text("mine")
    words = f"{notes} exists and isn't a manifest: choose another path, or remove it."
    assert sentence_of(copy, *ends, baseline=str(notes), reread=False, kind=ManifestError) == words
    assert sentence_of(_manifest_task.run, params(ends[0], dest=str(notes)), check_mode=False) == words
    assert notes.read_text() == "mine"
    assert "no regular file" in sentence_of(copy, *ends, baseline=str(tmp_path), kind=ManifestError)
    for start in ("", '{"kubeferry_manifest":1}\n'):  # an empty or old one is written anew
        notes.write_text(start)
        assert _manifest_task.run(params(ends[0], dest=str(notes)), check_mode=False)["changed"]
        assert len(read(str(notes))) == 5


def test_a_user_who_is_not_there(ends, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = sentence_of(copy, ends[0], "~nobody-here/x", kind=UsageError)
    assert said.startswith("target.path: there is no user 'nobody-here' here: ")
    assert copy(ends[0], "./~nobody-here/x")["parity"]


def test_what_is_no_report_is_refused_before_the_copy(ends, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match=r"^report: .*other.json exists and isn't a report"):
        copy(*ends, report=str(tmp_path / "other.json"))
    assert set(snapshot(ends[1])) == {b"."}


OWN = {
    "a file in it": ".kubeferry/notes",
    "a hidden file in it": ".kubeferry/.notes",
    "a file": ".kubeferry",
    "what a copy left": ".kubeferry/run-1/tree/x",
    "a lock": ".kubeferry/lock",
    "nothing": "",
}


@pytest.mark.parametrize("name", OWN)
def test_what_has_the_name_of_the_work_directory_at_the_source(ends, boxes, tmp_path, name):
    source, target = ends
    named = [".kubeferry"] if "file" in name else []
    if OWN[name]:
        write(source, OWN[name], b"precious")
    assert {engine.end(boxes, kind, source).facts().foreign for kind in ("local", "gnu", "busybox")} == {
        bool(named)
    }
    made = _manifest_task.run(params(source, dest=str(tmp_path / "m.jsonl")), check_mode=False)
    copied, again = copy(source, target), copy(source, target)
    verified = _verify_task.run(params(source, target), check_mode=False)
    for result in (copied, again, verified):
        assert result["parity"] is True
        assert result["not_compared"] == named
    for result in (made, copied, again, verified):
        said = [
            text
            for text in result["warnings"]
            if text.startswith(f".kubeferry in {source} on this machine has something of yours")
        ]
        assert len(said) == len(named)
    for chosen in ({"files": ["10"]}, {"include": ["1*"]}, {"exclude": [".kubeferry"]}):
        assert _verify_task.run(params(source, target, **chosen), check_mode=False)["not_compared"] == []


def test_a_link_with_the_name_of_the_work_directory(boxes, tmp_path):
    (tmp_path / ".kubeferry").symlink_to("elsewhere")
    assert all(engine.end(boxes, kind, tmp_path).facts().foreign for kind in ("local", "gnu", "busybox"))


def test_with_a_baseline_what_vanished_since_is_deleted_and_what_others_wrote_is_not(ends, tmp_path):
    source, target = ends
    write(source, "gone/all", b"all")
    write(source, "half/of", b"it")
    write(source, "theirs", b"ours")
    write(target, "there", b"before")
    baseline = tmp_path / "reports" / "first.jsonl"
    assert copy(source, target, baseline=str(baseline))["planned"]["delete"] == 0
    assert [each.name for each in baseline.parent.iterdir()] == ["first.jsonl"]
    shutil.rmtree(source / "gone")
    shutil.rmtree(source / "half")
    (source / "theirs").unlink()
    write(target, "half/mine", b"mine")
    write(target, "theirs", b"mine")
    write(target, "new", b"mine")
    done = copy(source, target, baseline=str(baseline))
    assert done["planned"] | {"metadata": 0} == {
        "create": 0,
        "replace": 0,
        "metadata": 0,
        "delete": 3,
        "extra": 8,
    }
    assert done["extra"] == ["half", "half/mine", "new", "theirs", "there"]
    assert not (target / "gone").exists()
    assert not (target / "half" / "of").exists()
    assert (target / "theirs").read_bytes() == b"mine"
    (source / "10").unlink()
    assert copy(source, target)["extra"].count("10") == 1, "without one, nothing is deleted"


def test_a_baseline_is_noted_though_an_earlier_run_has_proven_all(ends, tmp_path, monkeypatch):
    source, target = ends
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _time in range(2):
        copy(source, target, reread=False)
    baseline = tmp_path / "first.jsonl"
    copy(source, target, reread=False, baseline=str(baseline))
    assert [entry.path for entry in read(str(baseline)) if entry.kind == "file"] == [b"10", b"a/11", b"a/51"]


def test_what_a_baseline_names_vanishes_though_an_earlier_run_has_proven_what_there_was(
    ends, tmp_path, monkeypatch
):
    source, target = ends
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    baseline = str(tmp_path / "first.jsonl")
    copy(source, target, baseline=baseline)
    (source / "10").unlink()
    for _time in range(2):
        assert copy(source, target, reread=False)["extra"] == ["10"]
    assert copy(source, target, reread=False, baseline=baseline)["planned"]["delete"] == 1
    assert not (target / "10").exists()


def test_a_file_that_was_rewritten_with_the_same_size_and_time_is_not_what_a_baseline_names(ends, tmp_path):
    source, target = ends
    baseline = str(tmp_path / "first.jsonl")
    copy(source, target, baseline=baseline)
    status = (target / "10").stat()
    (target / "10").write_bytes(b"x" * status.st_size)
    os.utime(target / "10", ns=(status.st_atime_ns, status.st_mtime_ns))
    (source / "10").unlink()
    (source / "a" / "11").unlink()
    assert copy(source, target, baseline=baseline)["extra"] == ["10"]
    assert not (target / "a" / "11").exists()


@pytest.mark.parametrize("option", ["baseline", "report", "target_manifest"])
@pytest.mark.parametrize("place", ["source", "target", "target/.kubeferry", "target/a/12", "link"])
def test_a_file_of_the_run_among_what_is_copied_is_refused_before_the_copy(ends, tmp_path, option, place):
    os.symlink(ends[0] / "a", tmp_path / "link")
    ends[1].rmdir()
    path = tmp_path / place / ("" if place.endswith("12") else "file.jsonl")
    said = sentence_of(copy, *ends, **{option: str(path)}, kind=UsageError)
    assert said.startswith(f"{option.replace('_', '.')}: {path} ")
    assert ("lies in the", ".kubeferry of the target")["kubeferry" in place] in said
    assert not ends[1].exists()
    assert sorted(os.listdir(ends[0])) == ["10", "a"]


def test_a_file_of_the_run_beside_what_is_selected_is_no_part_of_it(ends):
    copy(*ends, files=["10"], report=str(ends[1] / "report.json"), baseline=str(ends[1] / "a/first.jsonl"))
    copy(*ends, exclude=["*.json"], report=str(ends[0] / "report.json"))
    again = copy(*ends, files=["10"], report=str(ends[1] / "report.json"))
    assert (again["changed"], again["parity"]) == (False, True)


def test_a_report_in_the_place_of_the_target_is_refused_before_the_copy(ends):
    ends[1].rmdir()
    assert "lies in the target" in sentence_of(copy, *ends, report=str(ends[1]), kind=UsageError)
    assert not ends[1].exists()


@pytest.mark.parametrize(
    "options", [("baseline", "target_manifest"), ("baseline", "source_manifest"), ("report",)]
)
@pytest.mark.parametrize("there", [False, True])
def test_two_files_of_the_run_that_are_the_same_are_refused_before_the_copy(ends, tmp_path, options, there):
    (tmp_path / "folder").mkdir()
    os.symlink("folder", tmp_path / "link")
    if there:
        write(tmp_path, "folder/file.jsonl", b"")
    one, other = tmp_path / "folder/file.jsonl", tmp_path / "link/file.jsonl"
    named = (*options, "target_manifest")[:2]
    said = sentence_of(copy, *ends, **dict(zip(named, map(str, (one, other)), strict=True)), kind=UsageError)
    first, second = (name.replace("_", ".") for name in named)
    assert said == f"{first} and {second} are the same file, {one}: give each one of its own."
    assert list(ends[1].iterdir()) == []


def test_digests_of_others_are_not_replaced_by_those_beside_a_manifest(ends, tmp_path):
    """Nothing in a list of digests tells whose it is."""
    listed = b"0" * 64 + b"  own\n"
    for number, manifest in enumerate((None, b"")):
        path, sums = tmp_path / f"{number}.jsonl", tmp_path / f"{number}.sha256sums"
        sums.write_bytes(listed)
        if manifest is not None:
            path.write_bytes(manifest)
        said = sentence_of(copy, *ends, target_manifest=str(path), kind=ManifestError)
        assert said.startswith(f"{sums} exists, and the manifest {path}, ")
        with pytest.raises(ManifestError, match=re.escape(said)):
            _manifest_task.run(params(ends[0], dest=str(path)), check_mode=False)
        assert (list(ends[1].iterdir()), sums.read_bytes()) == ([], listed)
    (tmp_path / "folder.sha256sums").mkdir()
    said = sentence_of(copy, *ends, target_manifest=str(tmp_path / "folder.jsonl"), kind=ManifestError)
    assert "no regular file" in said
    assert not (tmp_path / "folder.jsonl").exists()


def test_a_manifest_among_what_it_is_of_is_refused(ends):
    with pytest.raises(UsageError, match=r"^dest: .* lies in the source "):
        _manifest_task.run(params(ends[0], dest=str(ends[0] / "m.jsonl")), check_mode=False)
    done = _manifest_task.run(
        params(ends[0], dest=str(ends[0] / "m.jsonl"), exclude=["m.*"]), check_mode=False
    )
    assert done["files"] == 3
