# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole copies through a misbehaving exec server, and a judgement that asks both directories and not the report."""

from __future__ import annotations

import os
import random
import re
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from copyoptions import endpoint, options
from execfaults import Exec, Fault
from execserver import ExecServer
from trees import BILLION, snapshot, unlike, write

from ansible_collections.kubeferry.pvc.plugins.module_utils import _copy_task
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import KubeferryError
from ansible_collections.kubeferry.pvc.plugins.module_utils._look import MARGIN

PULL, PUSH, RELAY = "pull", "push", "relay"
"""From a pod to this machine, from this machine to a pod, and from pod to pod."""
SOURCE_POD, TARGET_POD = "pod", "other"
WHOLE, NAMED, REFUSED = "whole", "named", "refused"
"""How a copy may end: complete; with all that is missing named; with one sentence that says at which end, and what."""

OLD, NEW = 1_400_000_000 * BILLION, 1_500_000_000 * BILLION
CONTENTS = {
    name: random.Random(name).randbytes(size)
    for name, size in {"big": 110_000, "a/small": 700, "a/b/empty": 0, "changed": 5000, "same": 300}.items()
}


@dataclass
class Tally:
    """Counts endings, so that the end of a run of tests can say how many faults there were."""

    endings: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        total, honest = (
            sum(self.endings.values()),
            sum(self.endings[each] for each in (WHOLE, NAMED, REFUSED)),
        )
        return (
            f"faults: {total} cases, {honest} honest endings ({self.endings[WHOLE]} complete copies, "
            f"{self.endings[NAMED]} named all that is missing, {self.endings[REFUSED]} said why not)"
        )


TALLY = Tally()


@dataclass(frozen=True)
class Stream:
    """An exec of a copy without fault: the `number`-th of its command in its pod, and the bytes it carried."""

    pod: str
    command: str
    number: int
    input: bytes
    output: bytes

    def fault(self, kind: str, **options: Any) -> Fault:
        """A fault of just this exec."""
        return Fault(kind, match=self.command, pod=self.pod, skip=self.number, **options)

    @property
    def brings_content(self) -> bool:
        """Whether the contents of files went through it."""
        return CONTENTS["big"][:2000] in self.output or CONTENTS["big"][:2000] in self.input


class Ferry:
    """A source and a target of its own for each copy, both behind one server where they are in pods."""

    def __init__(self, server: ExecServer, way: str, place: Path) -> None:
        self._server = server
        self._way = way
        self._place = place
        self._count = 0
        self.source = self.target = place
        self.last: dict[str, Any] | KubeferryError = {}

    def load(self) -> None:
        """Some files that are new, one that changes, one that stays, a link, a link group and a directory."""
        self._count += 1
        place = self._place / f"{self._way}-{self._count}"
        self.source, self.target = place / "source", place / "target"
        self.source.mkdir(parents=True)
        self.target.mkdir()
        for name, data in CONTENTS.items():
            write(self.source, name, data, mtime=NEW)
        os.symlink("a/small", self.source / "link")
        os.link(self.source / "big", self.source / "twin of big")
        write(self.target, "changed", CONTENTS["changed"][::-1], mtime=NEW)
        write(self.target, "same", CONTENTS["same"], mtime=NEW)
        # What was made just now is scanned again in full: a copy would not always run the same commands.
        time.sleep(2 * MARGIN / BILLION)

    def copy(self, **given: Any) -> dict[str, Any] | KubeferryError:
        """What the module `pvc_copy` makes of it: its result, or the error that it fails with."""
        try:
            return _copy_task.run(self._request(given), check_mode=False)
        except KubeferryError as exc:
            return exc

    def _request(self, given: dict[str, Any]) -> dict[str, Any]:
        source = self._end(self.source, SOURCE_POD if self._way != PUSH else "")
        target = self._end(self.target, TARGET_POD if self._way != PULL else "")
        return options(source, target, **self._server.auth(), **given)

    def _end(self, path: Path, pod: str) -> dict[str, Any]:
        place = {"namespace": "ns", "pod": pod, "container": "main"} if pod else {}
        return endpoint(path=str(path), **place)

    def streams(self) -> list[Stream]:
        """The execs of a copy without fault."""
        self.load()
        self._server.behave()
        self._server.recording = True
        try:
            assert self.judge(self.copy()) == WHOLE
        finally:
            self._server.recording = False
        execs = [entry for entry in self._server.execs if entry.protocol]
        seen: Counter[tuple[str, str]] = Counter()
        found = []
        for entry in execs:
            command = program(entry)
            found.append(
                Stream(
                    entry.pod,
                    command,
                    seen[entry.pod, command],
                    *(bytes(each) for each in entry.record or ()),
                )
            )
            seen[entry.pod, command] += 1
        return found

    def suffer(self, *faults: Fault, **given: Any) -> str | None:
        """How a copy with these faults ends; None where none of them came to pass."""
        self.load()
        self._server.behave()
        self._server.inject(*faults)
        result = self.last = self.copy(**given)
        if not any(entry.struck for entry in self._server.execs):
            return None
        try:
            ending = self.judge(result)
        except AssertionError as exc:
            TALLY.endings["dishonest"] += 1
            raise AssertionError(f"{self._way} with {faults}: {exc}\n{result!r}") from exc
        TALLY.endings[ending] += 1
        return ending

    def judge(self, result: dict[str, Any] | KubeferryError) -> str:
        """What is really there, against what the module says."""
        have = snapshot(self.target, skip={b".kubeferry"})
        for path, seen in have.items():
            if stat.S_ISREG(seen.kind):
                name = "big" if path == b"twin of big" else os.fsdecode(path)
                allowed = {CONTENTS[name], CONTENTS["changed"][::-1] if name == "changed" else CONTENTS[name]}
                assert seen.content in allowed, f"{name} is half-written"
        missing = {
            os.fsdecode(p) for p in unlike(self.source, self.target, unit=BILLION, skip={b".kubeferry"})
        }
        if isinstance(result, KubeferryError):
            said = str(result)
            assert re.fullmatch(r"[^\n]+[.:!?]", said), f"not one sentence: {said}"
            assert re.search(r"[Pp]od ns/|127\.0\.0\.1|on this machine|namespace ns", said), (
                f"says not where: {said}"
            )
            return REFUSED
        if result["parity"]:
            assert not missing, f"wrong success: {missing}"
            assert not (self.target / ".kubeferry").exists(), "left its work directory"
            return WHOLE
        lists = (result["missing"], result["mismatched"], result["metadata_differences"])
        named = {item if isinstance(item, str) else item["path"] for items in lists for item in items}
        assert missing, "nothing is missing"
        # The time of the root is put right when all the rest is there.
        assert missing - {"."} <= named, f"not named: {missing - named}"
        return NAMED


def program(entry: Exec) -> str:
    """The part of a command that is the same in every copy: the script without its arguments."""
    return next((word for word in entry.argv if "\n" in word), entry.argv[0])


def places(data: bytes) -> Iterator[int]:
    """Where a stream of `data` can be cut: at its begin and end, in its middle, and at each boundary of a tar in it."""
    yield from (0, 1, len(data) // 2, len(data) - 1, len(data))
    for found in re.finditer(rb"ustar", data):
        start = found.start() - 257
        size = data[start + 124 : start + 135]
        if start >= 0 and re.fullmatch(rb"[0-7]+", size):
            begin, length = start + 512, int(size, 8)
            yield from (
                start,
                start + 300,
                begin,
                begin + length // 2,
                begin + length,
                begin + length + -length % 512,
            )


def spots(data: bytes, most: int) -> list[int]:
    """At most `most` of these places, spread evenly."""
    found = sorted({at for at in places(data) if 0 <= at <= len(data)})
    if len(found) <= most:
        return found
    return sorted({found[round(number * (len(found) - 1) / (most - 1))] for number in range(most)})
