# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan and the parity report: what two manifests make of each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import (
    BLOCK,
    DIR,
    FIFO,
    FILE,
    SYMLINK,
    Entry,
    Taken,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._manifest import Manifest
from ansible_collections.kubeferry.pvc.plugins.module_utils._parity import parity, sentence
from ansible_collections.kubeferry.pvc.plugins.module_utils._plan import (
    CREATE,
    DELETE,
    EXTRA,
    METADATA,
    REPLACE,
    Rules,
    batches,
    make_plan,
    needs_content,
    undecided,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._store import Store

BASE = Entry(b"f", FILE, 3, 0o644, 1, 2, 5_500_000_000, digest="aa")
ALL = Rules()


STORE = Store()


def manifest(*entries):
    return Manifest(entries, store=STORE)


def changes(plan):
    return list(plan.changes())


def one(want, have, rules=ALL, **options):
    plan = make_plan(manifest(want), manifest(have), rules, **options)
    return [(change.action, change.reasons) for change in plan.changes()]


@pytest.mark.parametrize(
    ("change", "action", "reasons"),
    [
        ({"size": 4}, REPLACE, ("size",)),
        ({"digest": "bb"}, REPLACE, ("content",)),
        ({"digest": ""}, REPLACE, ("content",)),
        ({"kind": DIR}, REPLACE, ("type",)),
        ({"kind": SYMLINK}, REPLACE, ("type",)),
        ({"kind": FIFO}, REPLACE, ("type",)),
        ({"mode": 0o4644}, METADATA, ("mode",)),
        ({"uid": 1_000_650_000}, METADATA, ("uid",)),
        ({"gid": 0}, METADATA, ("gid",)),
        ({"mtime": 5_500_000_001}, METADATA, ("mtime",)),
        ({"mtime": -1}, METADATA, ("mtime",)),
        ({"size": 4, "mode": 0, "uid": 0}, REPLACE, ("size", "mode", "uid")),
    ],
)
def test_each_difference_is_told_with_its_reason(change, action, reasons):
    assert one(BASE, replace(BASE, **change)) == [(action, reasons)]
    assert one(replace(BASE, **change), BASE) == [(action, reasons)]


def test_equal_entries_need_nothing():
    plan = make_plan(manifest(BASE), manifest(replace(BASE)), ALL)
    assert (changes(plan), plan.matched, list(plan.paths(EXTRA))) == ([], 1, [])


def test_without_digests_nothing_matches():
    bare = replace(BASE, digest="")
    assert one(bare, bare) == [(REPLACE, ("content",))]


def test_links_and_devices_are_told_apart_by_where_they_lead():
    link = Entry(b"l", SYMLINK, 0, 0o777, 0, 0, 0, link=b"to")
    assert one(link, replace(link, link=b"elsewhere")) == [(REPLACE, ("link",))]
    assert one(link, replace(link, mode=0o755)) == []
    disk = Entry(b"d", BLOCK, 0, 0o600, 0, 0, 0, device=(7, 1))
    assert one(disk, replace(disk, device=(7, 2))) == [(REPLACE, ("device",))]


@pytest.mark.parametrize("mtime", [5_999_999_999, 5_000_000_000])
def test_times_are_compared_in_the_coarser_unit(mtime):
    assert one(BASE, replace(BASE, mtime=mtime), Rules(precision=1_000_000_000)) == []
    assert one(BASE, replace(BASE, mtime=6_000_000_000), Rules(precision=1_000_000_000)) == [
        (METADATA, ("mtime",))
    ]


def test_half_a_second_before_1970_is_another_second():
    assert one(replace(BASE, mtime=-1), replace(BASE, mtime=0), Rules(precision=1_000_000_000))


def test_attributes_can_be_ignored_but_content_never():
    ignored = Rules(mode=False, owner=False, mtime=False)
    assert one(BASE, replace(BASE, mode=0, uid=0, gid=0, mtime=0), ignored) == []
    assert one(BASE, replace(BASE, digest="bb"), ignored) == [(REPLACE, ("content",))]


def test_an_implied_directory_must_only_be_there():
    want = Entry(b"d", DIR, 0, 0o700, 1, 1, 1, implied=True)
    assert one(want, Entry(b"d", DIR, 0, 0o755, 2, 2, 2)) == []
    assert one(want, replace(BASE, path=b"d")) == [(REPLACE, ("type",))]


def test_extra_paths_are_deleted_only_when_asked():
    extra = replace(BASE, path=b"g")
    assert not make_plan(manifest(BASE), manifest(BASE, extra), ALL)
    plan = make_plan(manifest(BASE), manifest(BASE, extra), ALL, delete=True)
    assert [(change.path, change.action) for change in plan.changes()] == [(b"g", DELETE)]
    assert list(plan.paths(DELETE)) == [b"g"]
    implied = Entry(b"a", DIR, 0, 0, 0, 0, 0, implied=True)
    assert not make_plan(manifest(BASE), manifest(implied, BASE), ALL, delete=True)


def test_what_a_check_of_the_file_system_found_is_kept():
    names = b"lost+found", b"lost+found/#12", b"lost+found/#12/in it", b"lost+founds", b"a/lost+found"
    target = manifest(*(replace(BASE, path=name) for name in names))
    plan = make_plan(manifest(), target, ALL, delete=True)
    assert list(plan.paths(DELETE)) == [b"a/lost+found", b"lost+founds"]


def test_a_directory_with_files_is_not_replaced_unasked():
    have = [Entry(b"f", DIR, 0, 0o755, 0, 0, 0), replace(BASE, path=b"f/new\nline")]
    with pytest.raises(
        EndpointError, match=r"f/new\\nline lies in a directory of the target .* set delete to true"
    ):
        make_plan(manifest(BASE), manifest(*have), ALL)
    assert one(BASE, have[0]) == [(REPLACE, ("type",))]
    assert {c.action for c in make_plan(manifest(BASE), manifest(*have), ALL, delete=True).changes()} == {
        REPLACE,
        DELETE,
    }


def grouped(target):
    """The reasons by path where the source's `a` and `b` are one file and `c` another, and `target` says what links."""
    source = [replace(BASE, path=b"a"), replace(BASE, path=b"b", hardlink=b"a"), replace(BASE, path=b"c")]
    have = [replace(BASE, path=path, identity=(1, inode)) for path, inode in target.items()]
    return {
        change.path: change.reasons for change in make_plan(manifest(*source), manifest(*have), ALL).changes()
    }


def test_link_groups_must_be_the_same_on_both_sides():
    assert grouped({b"a": 1, b"b": 1, b"c": 2}) == {}
    assert grouped({b"a": 1, b"b": 2, b"c": 3}) == {b"b": ("hardlink",)}
    assert grouped({b"a": 1, b"b": 1, b"c": 1}) == {b"c": ("hardlink",)}
    assert grouped({b"a": 1, b"b": 2, b"c": 2}) == {b"b": ("hardlink",), b"c": ("hardlink",)}
    assert grouped({b"0": 1, b"a": 1, b"b": 1, b"c": 2}) == {}


def test_a_part_of_a_link_group_has_a_first_path_of_its_own():
    directory = Entry(b"d", DIR, 0, 0o755, 0, 0, 0)
    whole = manifest(
        directory,
        replace(BASE, path=b"a"),
        replace(BASE, path=b"d/b", hardlink=b"a"),
        replace(BASE, path=b"d/c", hardlink=b"a"),
    )
    part = manifest(*(whole.get(path) for path in (b"d/b", b"d/c")))
    part.complete(whole)
    assert {entry.path: entry.hardlink for entry in part} == {b"d/b": b"", b"d/c": b"d/b", b"d": b""}
    assert part.get(b"d").implied
    assert not whole.get(b"d").implied


def test_only_files_of_equal_size_need_digests():
    source = manifest(*(replace(BASE, path=path) for path in (b"a", b"b", b"c", b"d")))
    target = manifest(
        replace(BASE, path=b"a"),
        replace(BASE, path=b"b", size=9),
        Entry(b"c", DIR, 0, 0, 0, 0, 0),
    )
    for side in (source, target):
        side.set_digests([Taken(b"b", "")])
        assert list(side.paths(undecided(source, target, side.table))) == []
        side.set_digests([Taken(b"a", "")])
        assert list(side.paths(undecided(source, target, side.table))) == [b"a"]


def test_two_links_of_which_nobody_could_tell_where_they_lead_are_no_match():
    sides = [manifest(Entry(b"link", SYMLINK, 0, 0o777, 0, 0, 0)) for _side in range(2)]
    assert [change.reasons for change in make_plan(*sides, Rules()).changes()] == [("link",)]


def test_batches_are_bounded_and_keep_the_order():
    entries = [replace(BASE, path=b"%03d" % number, size=10) for number in range(25)]
    entries.append(replace(BASE, path=b"100", size=1000))
    entries.append(replace(BASE, path=b"101", size=1000, hardlink=b"100"))
    plan = make_plan(manifest(*entries), manifest(replace(BASE, path=b"zz")), ALL, delete=True)
    slices = list(batches(plan.changes(), 100, 4))
    assert [change.path for batch in slices for change in batch] == [entry.path for entry in entries]
    for batch in slices:
        assert len(batch) <= 4
        weight = sum(change.want.size for change in batch if needs_content(change.want))
        assert weight <= 100 or len([change for change in batch if needs_content(change.want)]) == 1
    assert len(list(batches(plan.changes(), 100, 1000))) == 5


def test_the_parity_report_names_everything_that_does_not_match():
    source = manifest(
        replace(BASE, path=b"good"),
        replace(BASE, path=b"missing\n"),
        replace(BASE, path=b"other"),
        replace(BASE, path=b"mode", mode=0o4755, mtime=-1),
    )
    target = manifest(
        replace(BASE, path=b"good"),
        replace(BASE, path=b"other", digest="bb"),
        replace(BASE, path=b"mode", mode=0o755, mtime=1_500_000_000),
        replace(BASE, path=b"extra"),
    )
    target.unreadable[b"locked"] = "permission denied"
    found = parity(make_plan(source, target, ALL), source, target)
    assert found.as_dict() == {
        "matched": 1,
        "missing": ["missing\\n"],
        "mismatched": [{"path": "other", "differs": ["content"]}],
        "metadata_differences": [
            {"path": "mode", "differs": {"mode": ["4755", "0755"], "mtime": ["-0.000000001", "1.500000000"]}}
        ],
        "extra": ["extra"],
        "unreadable": [{"path": "locked", "reason": "permission denied"}],
        "changed_at_source": [],
        "counts": {
            "matched": 1,
            "missing": 1,
            "mismatched": 1,
            "metadata_differences": 1,
            "extra": 1,
            "unreadable": 1,
            "changed_at_source": 0,
        },
        "truncated": False,
    }
    said = sentence(found, "strict", extra=True)
    assert said == (
        "1 missing at the target (missing\\n); 1 different (other); 1 unreadable (locked); "
        "1 only at the target (extra); 1 different in mode and time (mode)"
    )


@pytest.mark.parametrize(
    ("target", "verdicts"),
    [
        ([BASE], (True, True, True)),
        ([], (False, False, False)),
        ([replace(BASE, digest="bb")], (False, False, False)),
        ([replace(BASE, mode=0)], (False, True, True)),
        ([BASE, replace(BASE, path=b"x")], (True, True, False)),
    ],
)
def test_when_a_copy_is_whole(target, verdicts):
    source, target = manifest(BASE), manifest(*target)
    found = parity(make_plan(source, target, ALL), source, target)
    assert (
        found.holds("strict"),
        found.holds("report"),
        found.holds("report", extra_allowed=False),
    ) == verdicts


def test_an_unreadable_path_is_never_a_whole_copy():
    source, target = manifest(BASE), manifest(BASE)
    source.unreadable[b"x"] = "gone"
    assert not parity(make_plan(source, target, ALL), source, target).holds("ignore")


def test_lists_are_cut_and_counts_are_not():
    source = manifest(*(replace(BASE, path=b"%04d" % number) for number in range(500)))
    found = parity(make_plan(source, manifest(), ALL), source, manifest()).as_dict(limit=100)
    assert (len(found["missing"]), found["counts"]["missing"], found["truncated"]) == (100, 500, True)
    assert next(make_plan(source, manifest(), ALL).paths(CREATE)) == b"0000"


def test_what_vanished_from_the_source_counts_unless_it_is_forgiven():
    source, target = manifest(), manifest()
    found = parity(
        make_plan(source, target, ALL), source, target, [(b"gone", "vanished"), (b"new", "changed")]
    )
    assert not found.holds("ignore")
    assert sentence(found, "ignore") == "1 vanished at the source meanwhile (gone)"
    assert found.at_rest().holds("strict")
    assert sentence(found.at_rest(), "strict") == ""
    assert found.at_rest().true_counts()["changed_at_source"] == 2


def test_sizes_that_are_more_than_63_bits_together():
    """As of two files with long holes."""
    long = (1 << 63) - 1
    names = b"a", b"b", b"c"
    source = manifest(*(replace(BASE, path=name, size=long, holes=0) for name in names))
    target = manifest(*(replace(BASE, path=name, size=long - 1, digest="bb") for name in names))
    plan = make_plan(source, target, ALL)
    assert source.totals() == plan.content() == (3, 3 * long)
    assert (plan.room(), plan.replaced_bytes()) == (3 * long, 3 * (long - 1))


def test_of_what_is_extra_only_what_is_as_it_was_known_is_deleted():
    def entry(path, kind=FILE, **values):
        return replace(BASE, path=path, kind=kind, digest="", **values)

    gone, kept = entry(b"gone", DIR), entry(b"kept", DIR)
    files = [entry(path) for path in (b"gone/f", b"kept/f", b"written", b"grown", b"touched")]
    link = entry(b"link", SYMLINK, link=b"f")
    known = manifest(gone, kept, *files, link, entry(b"dir"))
    have = [
        *(gone, kept, *files[:2], entry(b"kept/mine"), link, entry(b"mine")),
        *(entry(b"grown", size=4), entry(b"touched", mtime=1), entry(b"dir", DIR), entry(b"dir/mine")),
    ]
    plan = make_plan(manifest(), manifest(*have), ALL, known=known)
    assert set(plan.paths(DELETE)) == {b"gone", b"gone/f", b"kept/f", b"link"}
    assert set(plan.paths(EXTRA)) == {
        b"kept",
        b"kept/mine",
        b"mine",
        b"grown",
        b"touched",
        b"dir",
        b"dir/mine",
    }
    assert not make_plan(manifest(), manifest(*have), ALL).count(DELETE)


def test_a_directory_of_which_all_is_known_may_give_way():
    gone, inside = replace(BASE, path=b"d", kind=DIR, digest=""), replace(BASE, path=b"d/f")
    there = manifest(gone, inside)
    plan = make_plan(manifest(replace(BASE, path=b"d")), there, ALL, known=manifest(gone, inside))
    assert {change.action for change in plan.changes()} == {REPLACE, DELETE}
    with pytest.raises(EndpointError, match="d/f lies in a directory of the target"):
        make_plan(manifest(replace(BASE, path=b"d")), there, ALL, known=manifest(gone))


def test_what_is_shared_is_what_the_target_has_of_the_source():
    other = replace(BASE, path=b"other")
    want = manifest(BASE, replace(BASE, path=b"mode"), other, replace(BASE, path=b"missing"))
    have = manifest(
        BASE, replace(BASE, path=b"mode", mode=0), replace(other, size=9), replace(BASE, path=b"x")
    )
    assert [entry.path for entry in make_plan(want, have, ALL).shared()] == [b"f", b"mode"]
