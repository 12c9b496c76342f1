# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What the scripts tell about a directory at an endpoint: names, status, links, extended attributes and digests.

Whatever they print may be made up by a hostile pod, so everything that is taken from there has a bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from . import _scripts as scripts
from . import _shell_output as output
from ._asking import Asker, answers
from ._entry import DIGEST_BYTES, SYMLINK, Taken
from ._errors import EndpointError, ProtocolError, ToolMissing
from ._look import Look
from ._manifest import Manifest
from ._names import display
from ._row import CHANGED
from ._runner import STDERR_LIMIT
from ._shell_probe import probe
from ._store import Row, batched
from ._tree import Facts
from ._xattrs import Xattrs, dumped

WALK_ROUNDS = 5
MOST_NAMES = 50_000_000
MOST_UNREADABLE = 100_000
"""What is taken from a pod. It could make up names without an end."""
ASKED_AT_ONCE = 20_000
"""Names that one command is asked about."""


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

    def walk(self, script: str, starts: Sequence[bytes], manifest: Manifest) -> Iterator[Row]:
        """The rows of what is below `starts`. A name that vanishes while it is looked at is looked at again."""
        look, unreadable = manifest.look or Look(), manifest.unreadable
        names = named(starts)
        seen = 0
        for _round in range(WALK_ROUNDS):
            again: list[bytes] = []
            for batch in self.batches(script, names, look):
                seen += len(batch.names)
                if seen > MOST_NAMES or len(unreadable) > MOST_UNREADABLE:
                    raise EndpointError(
                        f"{self._asker.where} shows more than {MOST_NAMES} names, or {MOST_UNREADABLE} unreadable "
                        "ones: copy it in parts, with files."
                    )
                try:
                    rows = output.rows(batch)
                except ProtocolError as exc:
                    raise ProtocolError(
                        f"Reading the names below {self._asker.where} broke off: {exc}."
                    ) from exc
                if rows is None:
                    again += batch.names
                    continue
                look.add(batch.raw)
                look.changed(max((int(row[CHANGED]) for row in rows), default=0))
                yield from rows
                for name in batch.unreadable:
                    unreadable[output.relative(name)] = "permission denied"
            if not again:
                return
            script, names = scripts.LOOK, again
        for name in names:
            unreadable[output.relative(name)] = "vanishes and comes back while it is read"

    def batches(
        self, script: str, names: Sequence[bytes], look: Look | None, *arguments: str
    ) -> Iterator[output.Batch]:
        """The answer about `names`: of a walk where there is a `look` to begin, else of digests."""
        process, asked = self._asker.ask(script, names, *(arguments or (scripts.FORMAT,)))
        failed = False
        with self._asker.told(process, asked, "Reading the names below") as stream:
            if look is not None:
                look.begin(output.clock(stream), self.facts().precision)
            yield from output.batches(stream, with_unreadable=look is not None)
            if look is not None:
                failed = output.complained(stream, scripts.WALK_STATUSES, "find")
        if failed:
            self._refuse_errors("find", process.stderr())

    def _refuse_errors(self, tool: str, said: bytes) -> None:
        """What a tool could not read is a part of the tree that nobody would miss otherwise.

        What vanished meanwhile, and what this user may not read, is seen by other means.
        """
        # A name in a message may hold newlines.
        start = re.escape(tool.encode() + b": ")
        messages = re.findall(rb"^%b(?:.(?!^%b))*" % (start, start), said, re.DOTALL | re.MULTILINE)
        if not messages or len(said) >= STDERR_LIMIT:
            raise EndpointError(
                f"{self._asker.where} can't be read whole: {tool} failed and "
                f"{'said too much to tell why' if messages else 'did not say why'}. Copy it in parts, with files."
            )
        for message in (display(message.rstrip(b"\n")) for message in messages):
            if not message.endswith(("No such file or directory", "Permission denied")):
                raise EndpointError(f"{self._asker.where} can't be read whole: {message}.")

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
            self._refuse_errors("getfattr", process.stderr())

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
        for batch in self.batches(scripts.DIGEST, [prefix + path for path in paths], None, checksum, tool):
            told += len(batch.names)
            if told > len(paths):
                raise ProtocolError(f"{self._asker.where} told digests of more files than it was asked for.")
            looks = output.looks(batch)
            for name, digest in output.digests(batch, 2 * DIGEST_BYTES[checksum]):
                path = name.removeprefix(prefix)
                if path in wanted and name in looks:
                    yield Taken(path, digest, *looks[name])


def named(starts: Sequence[bytes]) -> list[bytes]:
    return [b"./" + start if start != b"." else b"." for start in starts]
