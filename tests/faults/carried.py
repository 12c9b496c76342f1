# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies that pass nothing through the engine's own process: two directories, the boxes that reach them, and a link."""

from __future__ import annotations

import engine
import trees

from ansible_collections.kubeferry.pvc.plugins.module_utils._carry import carrying
from ansible_collections.kubeferry.pvc.plugins.module_utils._copy import Copy, Options, Outcome
from ansible_collections.kubeferry.pvc.plugins.module_utils._link import PodLink
from ansible_collections.kubeferry.pvc.plugins.module_utils._selection import select
from ansible_collections.kubeferry.pvc.plugins.module_utils._shell_tree import ShellTree


class Spy:
    """A runner that keeps count of what its commands read and print."""

    def __init__(self, runner):
        self._runner = runner
        self.where = runner.where
        self.taken = 0

    def start(self, argv, stdin=None, stdin_size=None):
        pieces = stdin if stdin is None or isinstance(stdin, int) else self._fed(stdin)
        process = self._runner.start(argv, pieces, stdin_size)
        read = process.read

        def counted():
            piece = read()
            self.taken += len(piece)
            return piece

        process.read = counted
        return process

    def _fed(self, pieces):
        for piece in pieces:
            self.taken += len(piece)
            yield piece


class Carried:
    """A source and a target below `place`, in one box each; with one box, they are in one pod."""

    def __init__(self, place, box, other=None, link=None):
        self.boxes = box, other or box
        self.source, self.target = place / "source", place / "target"
        self.source.mkdir()
        self.target.mkdir()
        self.spy = Spy(box.runner())
        self._link = link or PodLink
        self.unit = 1 if self.boxes[1].exact and self.boxes[0].exact else trees.BILLION

    def copy(self, **options) -> Outcome:
        there = self.spy if self.boxes[0] is self.boxes[1] else Spy(self.boxes[1].runner())
        source = ShellTree(self.spy, str(self.source), engine.progress())
        target = ShellTree(there, str(self.target), engine.progress())
        link = self._link(source.pieces().place, target.pieces().place)
        transport = carrying(link, source, target, engine.progress())
        selection = select(source.path, None, None, None)
        return Copy(source, target, selection, Options(**options), transport, engine.progress()).run()

    def unlike(self):
        return trees.unlike(self.source, self.target, unit=self.unit)
