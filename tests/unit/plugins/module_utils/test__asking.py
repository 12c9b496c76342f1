# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an answer is waited for: a command that hangs ends in a sentence, and one that is slow doesn't."""

from __future__ import annotations

import time

import engine
import pytest
from toolbox import Box, found
from trees import write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _asking
from ansible_collections.kubeferry.pvc.plugins.module_utils import _scripts as scripts
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import Stuck
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import Selection

HANGING = {"silent": "exec sleep 20", "zeros": "exec cat /dev/zero", "complaints": "exec timeout 5 yes >&2"}
SAID = "came to a stop: nothing more was said for 1 s, so a tool hangs there, or the volume: mend that, and run again."
READING = r"^Reading the names below /.*/source in pod shop/web came to a stop: nothing more was said for "


@pytest.fixture
def tree(tmp_path):
    """Makes a tree with a file in a pod, of whose tools one begins with a line of shell."""

    def make(tool="stat", line="", *, known=True):
        place = tmp_path / "box"
        box = Box(str(place), "gnu", without=[tool])
        (place / tool).write_text(f'#!{found("sh", "dash")}\n{line}\nexec {found(tool, "coreutils")} "$@"\n')
        (place / tool).chmod(0o755)
        (place / "yes").symlink_to(found("yes", "coreutils"))
        write(tmp_path / "source", "a/file", b"content")
        made = engine.shell(box, tmp_path / "source", "pod shop/web")
        if known:
            made.facts()
        return made

    return make


@pytest.fixture
def silent(monkeypatch):
    """What reads may say nothing for a second, and another one for each name."""
    monkeypatch.setattr(_asking, "SILENT_SECONDS", 1.0)


@pytest.mark.parametrize("way", HANGING)
def test_a_first_question_that_is_never_answered(tree, tmp_path, monkeypatch, way):
    monkeypatch.setattr(_asking, "ANSWER_SECONDS", 1.0)
    hanging = tree("tar", f"case $1 in --version) {HANGING[way]} ;; esac", known=False)
    (tmp_path / "target").mkdir()
    started = time.monotonic()
    with pytest.raises(Stuck) as error:
        engine.copy(hanging, engine.local(tmp_path / "target"), retries=3)
    assert str(error.value) == f"Asking about {tmp_path}/source in pod shop/web {SAID}"
    assert time.monotonic() - started < 10


def test_a_command_that_does_not_begin(tree, monkeypatch):
    hanging = tree()
    monkeypatch.setattr(_asking, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(scripts, "SCAN", f"sleep 20\n{scripts.SCAN}")
    with pytest.raises(Stuck, match=READING):
        hanging.scan(Selection())


def test_a_walk_that_stops_in_the_middle(tree, silent):
    hanging = tree("stat", f"case $* in *%f*) {HANGING['silent']} ;; esac")
    with pytest.raises(Stuck, match=READING):
        hanging.scan(Selection())


def test_a_command_that_does_not_end_after_its_answer(tree, monkeypatch):
    lasting = tree()
    monkeypatch.setattr(_asking, "ANSWER_SECONDS", 3.0)
    monkeypatch.setattr(scripts, "SCAN", scripts.SCAN.replace("read -r word\nexit 0", "sleep 20"))
    with pytest.raises(Stuck, match=READING):
        lasting.scan(Selection())


def test_attributes_of_the_directory_that_are_never_set(tree, tmp_path, monkeypatch):
    hanging = tree("chmod", f'case "$*" in *" .") {HANGING["silent"]} ;; esac')
    (tmp_path / "new").mkdir(mode=0o711)
    write(tmp_path / "new", "file", b"new")
    monkeypatch.setattr(_asking, "ANSWER_SECONDS", 3.0)
    with pytest.raises(
        Stuck, match=r"^Writing below /.*/source in pod shop/web came to a stop: nothing more"
    ):
        engine.copy(engine.local(tmp_path / "new"), hanging)


def test_a_sync_that_does_not_end_is_no_failure(tree, tmp_path, monkeypatch):
    (tmp_path / "target").mkdir()
    monkeypatch.setattr(_asking, "ANSWER_SECONDS", 3.0)
    hanging = tree("timeout", HANGING["silent"])
    assert engine.whole(engine.copy(hanging, engine.local(tmp_path / "target")))


def test_what_is_slow_and_goes_on_is_waited_for(tree, silent, monkeypatch):
    """More than twice the limit, with a word now and then."""
    slow = tree("stat", "case $* in *%f*) sleep 0.6 ;; esac")
    for number in range(6):
        write(slow.path, f"{number}", b"")
    one_by_one = scripts.SCAN.replace("xargs -0 -r sh", "xargs -0 -r -n 1 sh").replace("{ gather;", "{ cat;")
    monkeypatch.setattr(scripts, "SCAN", one_by_one)
    started = time.monotonic()
    assert len(slow.scan(Selection())) == 9
    assert time.monotonic() - started > 4


def test_a_digest_may_take_as_long_as_it_takes(tree, silent):
    slow = tree("sha256sum", "sleep 3")
    (taken,) = slow.digests([b"a/file"], "sha256")
    assert taken.digest == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def test_who_reads_slowly_takes_nothing_for_a_command_that_hangs(tree, silent):
    asker = tree().pieces().place.asker
    with asker.told(*asker.ask(scripts.LINKS, []), "Reading") as stream:
        time.sleep(1.5)
        assert stream.exactly(4) == b"end\0"
        time.sleep(1.5)
