# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What the scripts tell about a directory at an endpoint: names, status, links, extended attributes and digests.

Whatever they print may be made up by a hostile pod, so everything that is taken from there has a bound.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence

from . import _scripts as scripts
from . import _shell_output as output
from ._asking import Asker, answers
from ._complaints import Complaint, complaints
from ._entry import DIGEST_BYTES, SYMLINK, Taken
from ._errors import EndpointError, ProtocolError, ToolMissing, broke_off
from ._look import Look
from ._manifest import Manifest
from ._names import display
from ._row import CHANGED
from ._runner import SAID, STDERR_LIMIT
from ._shell_probe import probe
from ._store import Row, batched
from ._tree import Facts
from ._xattrs import Xattrs, dumped

WALK_ROUNDS = 5
MOST_NAMES = 50_000_000
MOST_UNREADABLE = 100_000
MOST_KEPT = 48 << 20
"""What is taken from a pod. It could make up names without an end. The last is the bytes of memory for names of files
that can't be read, and for those to be looked at again."""
ASKED_AT_ONCE = 20_000
"""Names that one command is asked about."""
RESTLESS = "vanishes and comes back while it is read"


class ShellReading:
    """Asks about a directory."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._facts: Facts | None = None

    def facts(self) -> Facts:
        """What the first question told."""
        if self._facts is None:
            self._facts = probe(self._asker)
        return self._facts

    def walk(
        self, script: str, starts: Sequence[bytes], manifest: Manifest, missed: list[Complaint]
    ) -> Iterator[Row]:
        """The rows of what is below `starts`. A name that vanishes while it is looked at is looked at again.

        What couldn't be listed is added to `missed`.
        """
        look, unreadable = manifest.look or Look(), manifest.unreadable
        names = named(starts)
        seen = denied = 0
        for _round in range(WALK_ROUNDS):
            again: list[bytes] = []
            vanishing = 0
            for batch in self.walked(script, names, look, missed):
                seen += len(batch.names)
                denied += _room(batch.unreadable)
                if seen > MOST_NAMES or len(unreadable) > MOST_UNREADABLE or denied > MOST_KEPT:
                    raise EndpointError(
                        f"{self._asker.where} shows more than {MOST_NAMES} names, or {MOST_UNREADABLE} unreadable "
                        "ones: copy it in parts, with files."
                    )
                try:
                    rows = output.rows(batch)
                except ProtocolError as exc:
                    raise broke_off(exc, f"Reading the names below {self._asker.where}") from exc
                if rows is None:
                    vanishing += _room(batch.names)
                    if vanishing > MOST_KEPT:
                        raise EndpointError(
                            f"Too many names below {self._asker.where} vanish while they are looked at: run again when "
                            "it is at rest, or copy it in parts, with files."
                        )
                    again += batch.names
                    continue
                look.add(batch.raw)
                look.changed(max((int(row[CHANGED]) for row in rows), default=0))
                look.on(output.devices(batch))
                yield from rows
                for name in batch.unreadable:
                    unreadable[output.relative(name)] = "permission denied"
            if not again:
                return
            script, names = scripts.LOOK, again
        for name in names:
            unreadable[output.relative(name)] = RESTLESS

    def walked(
        self, script: str, names: Sequence[bytes], look: Look, missed: list[Complaint]
    ) -> Iterator[output.Batch]:
        """The answer of a walk, for a `look` to begin."""
        process, asked = self._asker.ask(script, names, scripts.FORMAT)
        with self._asker.told(process, asked, "Reading the names below") as stream:
            look.begin(*output.beginning(stream))
            yield from output.batches(stream, with_unreadable=True)
            failed = output.complained(stream, scripts.WALK_STATUSES, "find")
        if failed:
            missed += self._complaints("find", process.stderr())

    def _complaints(self, tool: str, said: bytes) -> list[Complaint]:
        """What a tool couldn't look at is a part of the tree that nobody would miss otherwise."""
        found, others = complaints(tool, said)
        if others:
            raise EndpointError(f"{self._asker.where} can't be read whole: {display(others[0][:SAID])}.")
        if not found or len(said) >= STDERR_LIMIT:
            raise EndpointError(
                f"{self._asker.where} can't be read whole: {tool} failed and "
                f"{'said too much to tell why' if found else 'did not say why'}. Copy it in parts, with files."
            )
        return found

    def read_links(self, manifest: Manifest) -> None:
        for paths in batched(manifest.paths(f"kind = '{SYMLINK}'"), ASKED_AT_ONCE):
            manifest.set_links(self._links(paths))

    def _links(self, paths: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        wanted = set(paths)
        process, names = self._asker.ask(scripts.LINKS, [b"./" + path for path in paths])
        with self._asker.told(process, names, "Reading the links below") as stream:
            for name, target in answers(output.links(stream), len(paths)):
                path = output.relative(name)
                if path not in wanted:
                    raise ProtocolError("a link came that was not asked for")
                yield path, target

    def read_xattrs(self, manifest: Manifest) -> None:
        for paths in batched(manifest.paths(f"kind <> '{SYMLINK}'"), ASKED_AT_ONCE):
            manifest.set_xattrs(self._xattrs(paths))

    def _xattrs(self, paths: Sequence[bytes]) -> Iterator[tuple[bytes, Xattrs]]:
        process, names = self._asker.ask(scripts.XATTRS, [b"./" + path for path in paths])
        with self._asker.told(process, names, "Reading the attributes below") as stream:
            for name, found in answers(dumped(stream), len(paths)):
                yield output.relative(name), found
            failed = output.complained(stream, scripts.XATTR_STATUSES, "getfattr")
        if failed:
            self._complaints("getfattr", process.stderr())

    def digests(self, paths: Sequence[bytes], checksum: str, prefix: bytes) -> Iterator[Taken]:
        if not paths:
            return
        tool = f"{checksum}sum"
        tools = self.facts().tools
        if "openssl" in tools:
            tool = "openssl"
        elif tool not in tools:
            have = sorted(name for name in DIGEST_BYTES if f"{name}sum" in tools)
            raise ToolMissing(
                f"{self._asker.runner.where} has no {tool}: set checksum to one of {', '.join(have)}."
            )
        wanted = set(paths)
        told = 0
        process, asked = self._asker.ask(scripts.DIGEST, [prefix + path for path in paths], checksum, tool)
        # A large file is read to its end before a word is said of it.
        with self._asker.told(process, asked, "Reading the files below", math.inf) as stream:
            for batch in output.batches(stream, with_unreadable=False):
                told += len(batch.names)
                if told > len(paths):
                    raise ProtocolError("digests of more files came than were asked for")
                looks = output.looks(batch)
                for name, digest in output.digests(batch, 2 * DIGEST_BYTES[checksum]):
                    path = name.removeprefix(prefix)
                    if path in wanted and name in looks:
                        yield Taken(path, digest, *looks[name])


def _room(names: Iterable[bytes]) -> int:
    """The bytes of memory that names take up."""
    return sum(map(sys.getsizeof, names))


def named(starts: Sequence[bytes]) -> list[bytes]:
    return [b"./" + start if start != b"." else b"." for start in starts]
