# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies within one pod: real directories, and one box of tools for both ends."""

from __future__ import annotations

import os
import random

import engine
import pytest
import trees
from trees import touched, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _carry
from ansible_collections.kubeferry.pvc.plugins.module_utils._carry import archived, carrying, grouped
from ansible_collections.kubeferry.pvc.plugins.module_utils._copy import Copy, Options
from ansible_collections.kubeferry.pvc.plugins.module_utils._entry import Entry
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import EndpointError
from ansible_collections.kubeferry.pvc.plugins.module_utils._link import PodLink
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import select

MIB = 1 << 20


class Pod:
    """Two directories that one box reaches, and copies from one to the other."""

    def __init__(self, box, place):
        self.box = box
        self.runner = box.runner()
        self.source, self.target = place / "source", place / "target"
        self.source.mkdir()
        self.target.mkdir()

    def copy(self, **options):
        source, target = engine.shell(self.box, self.source), engine.shell(self.box, self.target)
        for tree in (source, target):
            tree._runner = self.runner
        link = PodLink(source.pieces().place, target.pieces().place)
        transport = carrying(link, source, target, engine.progress())
        selection = select(source.path, None, None, None)
        return Copy(source, target, selection, Options(**options), transport, engine.progress()).run()

    def unlike(self):
        return unlike(self.source, self.target, unit=1 if self.box.exact else trees.BILLION)

    @property
    def scripts(self):
        return [argv[2] for argv in self.runner.started]


@pytest.fixture(params=["busybox", "gnu"])
def pod(request, boxes, tmp_path):
    return Pod(boxes[request.param], tmp_path)


def test_every_kind_of_file_arrives_and_a_second_run_changes_nothing(pod):
    trees.plant(pod.source)
    before = touched(pod.source)
    outcome = pod.copy()
    assert pod.unlike() == {}
    assert engine.whole(outcome)
    assert touched(pod.source) == before
    there = touched(pod.target)
    second = pod.copy()
    assert (bool(second.plan), second.bytes_moved) == (False, 0)
    assert touched(pod.target) == there
