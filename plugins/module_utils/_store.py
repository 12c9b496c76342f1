# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""Where manifests and plans are while they are worked on: a private database, on disk beyond a few megabytes.

A million files must fit into the memory of a module, so trees are compared by a library that was made to compare more
than fits into memory, and not in dictionaries. The file belongs to nobody else, has no name, and is gone with its last
user, whatever ends it; so nothing in it is ever committed.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from ._errors import EndpointError

Row: TypeAlias = Sequence[Any]

CACHE_KIBIBYTES = 16 << 10
PAGE = 1_000
"""Rows that are fetched at once. Reading goes on after the last of them, so tables may change in between."""
BATCH = 2_000


class Store:
    """Tables of one comparison, or of one manifest. Safe to use from several threads at once."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._numbers = itertools.count(1)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIBIBYTES}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("BEGIN")

    def table(self, definition: str) -> str:
        """Make a table with the primary key `path`; its name."""
        name = f"t{next(self._numbers)}"
        self.run(f"CREATE TABLE {name} (path BLOB PRIMARY KEY, {definition}) WITHOUT ROWID")
        return name

    def drop(self, table: str) -> None:
        self.run(f"DROP TABLE {table}")

    def run(self, statement: str, values: Iterable[object] = ()) -> int:
        """Execute one statement; how many rows it changed. Raises EndpointError where the disk is full."""
        try:
            return self._db.execute(statement, tuple(values)).rowcount
        except sqlite3.OperationalError as exc:
            raise _full(exc) from exc

    def many(self, statement: str, rows: Iterable[Row]) -> None:
        """Execute a statement for each row, a bounded number of rows at a time."""
        try:
            for batch in batched(rows, BATCH):
                self._db.executemany(statement, batch)
        except sqlite3.OperationalError as exc:
            raise _full(exc) from exc

    def one(self, query: str, values: Iterable[object] = ()) -> Row:
        """The one row of a query."""
        found: Row | None = self._db.execute(query, tuple(values)).fetchone()
        return found or ()

    def page(self, query: str, values: Iterable[object] = ()) -> list[Row]:
        """All rows of a query whose rows are known to fit into memory."""
        return self._db.execute(query, tuple(values)).fetchall()

    def pages(
        self, query: str, key: str, values: tuple[object, ...] = (), *, backwards: bool = False
    ) -> Iterator[Row]:
        """The rows of `query`, which ends in a condition, in the order of its first column, `key`."""
        sign, order = ("<", " DESC") if backwards else (">", "")
        rows = self.page(f"{query} ORDER BY {key}{order} LIMIT {PAGE}", values)
        while rows:
            yield from rows
            if len(rows) < PAGE:
                return
            more = f"{query} AND {key} {sign} ? ORDER BY {key}{order} LIMIT {PAGE}"
            rows = self.page(more, (*values, rows[-1][0]))


def total(column: str) -> str:
    """Two columns of a query that make up a sum together, as `added` adds them: SQLite's own fails beyond 63 bits.

    Two files with a hole almost as long as a file may be are enough for that.
    """
    return f"coalesce(sum(({column}) >> 32), 0), coalesce(sum(({column}) & {0xFFFFFFFF}), 0)"


def added(upper: int, lower: int) -> int:
    """The sum of what was asked for by `total`."""
    return (upper << 32) + lower


def _full(exc: sqlite3.OperationalError) -> EndpointError:
    return EndpointError(
        f"The directory for temporary files on this machine can't hold what is known of the trees ({exc}): make room "
        "there, or set TMPDIR to a directory that has some."
    )


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """`items` in lists of at most `size`."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
