# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What must not leave: values behind telling names, values that are known, and what looks like a credential.

A value is known when the user lists it, when the environment holds it under a telling name, or when an argument or a
result had it behind one. From then on it is taken out of every text, whatever field it turns up in.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "<redacted>"
# With or without a number, in a text with a mask.
MASKED = MASK[:-1]

# What events themselves are made of: how a run, a host or a copy ended, what is counted, and the fields of a report.
# Such a word is no secret, and as a field's name it always stays.
OWN_WORDS = frozenset(
    """
    ok failed interrupted started changed skipped unreachable poll retry failures rescued ignored
    linear free debug host_pinned localhost
    whole source target checksum transport route files bytes seconds matched counts truncated
    missing extra mismatched metadata_differences unreadable changed_at_source path differs reason what
    type size content link hardlink device vanished stream direct mount
    """.split()
)
# The fields at the top of an event's data that have no other words or names than these, numbers, names of hosts as
# `Redactor.host` has them, and the ids of plays and tasks, by which events belong together.
_OWN_FIELDS = {"status", "phase", "play_id", "task_id", "host", "stats", "totals"}
# Names of options, environment variables and fields that hold a secret.
KEYS = (
    r"pass[-_]?(?:word|wd|phrase|code)|(?:^|[-_])(?:pass|pwd?)(?:$|[-_])|secret|token|api[-_]?key|access[-_]?key|private[-_]?key"
    r"|client[-_]?key|(?:certificate|client|ca)[-_]?(?:authority)?[-_]?data|kube[-_]?config|credential|authorization"
    r"|^auth$|cookie|bearer"
)
# The same words where a program's output or arguments have them: name=value, "name": "value", --name value.
_WORDS = (
    r"pass[-_]?(?:word|wd|phrase)|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|key-data|credential"
)
_PATTERNS = (
    # scheme://user:password@host, and a token in place of the user
    (re.compile(r"(://)(?:[^\s\"'/\\<>]+|[^\s\"'/:@\\<>]+:[^\s\"'\\<>@]+)@"), rf"\1{MASK}@"),
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        MASK,
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"), MASK),
    (re.compile(r"(?i)(\bauthorization\b[\"']?\s*[:=]\s*[\"']?)[^\"'\r\n<]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}"), rf"\1{MASK}"),
    (
        re.compile(rf"(?i)((?:{_WORDS})[\w-]*[\"']?\s*[=:]\s*)(?:\"[^\"]*\"?|'[^']*'?|[^\s\"'<,;&]+)"),
        rf"\1{MASK}",
    ),
    (
        re.compile(rf"(?i)((?<!\S)--?[\w-]*(?:{_WORDS})[\w-]*\s+)(?:\"[^\"]*\"|'[^']*'|[^\s\"'<-]\S*)"),
        rf"\1{MASK}",
    ),
)
# One of these is in every text that a pattern could change. They are looked for first, because `in` costs less than
# a hundredth of what the patterns cost.
_HINTS = ("://", "private", "eyj", "authorization", "bearer", "pass", "secret", "token", "key", "credential")


def _hinted(text: str) -> bool:
    low = text.lower()
    for hint in _HINTS:  # noqa: SIM110 (twice as fast as `any`, and every event comes by here)
        if hint in low:
            return True
    return False


_OPTION = re.compile(rf"(?i)^--?[\w-]*(?:{_WORDS})[\w-]*$")
# Not PWD and OLDPWD, which every shell sets.
_ENVIRONMENT = re.compile(
    r"TOKEN|PASS(?:WORD|WD|PHRASE|CODE)|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|COOKIE|BEARER"
    r"|AUTHORIZATION|(?:^|_)PASS(?:$|_)|_PWD(?:$|_)",
    re.IGNORECASE,
)
_NOT_A_VALUE = re.compile(r"(?:_FILE|_PATH|_DIR|_URL|_SOCK|_NAME|_ID)$", re.IGNORECASE)

# A shorter value that nobody listed is more likely a word ("default", "yes") than a secret.
SHORTEST_LEARNT = 6
# What a run can teach is bounded, because every event is searched for it. Beyond it no results are told any more.
MOST_LEARNT = 1_000
# Of more forms than these, what they begin with is looked for instead of each.
FEW_FORMS = 300
_BEGINNING = 6
# A form is compared with so many shorter ones of the same value, which it may contain.
_MOST_SIGNS = 10
# What base64(1) and MIME write in one line.
_BASE64_LINE = 76
# What a JSON encoder may write in other ways: Go's is kubectl's and the API server's.
_GO = str.maketrans({"<": r"\u003c", ">": r"\u003e", "&": r"\u0026"})
_SMALL_HEX = re.compile(r"\\u[0-9a-f]{4}")
# What bash puts a backslash before, as in `printf %q`.
_OF_THE_SHELL = re.compile(r"([ !\"$&'()*,;<>?\[\\\]^`{|}])")
_PLAIN = re.compile(r"[A-Za-z0-9]+")
# A name, a path or another word of an event that is no result's is no longer than this; the schema says so.
LONGEST_WORD = 1_024
# A text that is searched for secrets as JSON is no longer than this, which takes 25 ms.
LONGEST_JSON = 1_048_576
# What is searched at once for telling names has no more values than this; the facts of a large machine have 5,000, and
# take 6 ms.
MOST_SEARCHED = 20_000
# Templates behind telling names that wait for somebody who has variables.
MOST_TEMPLATES = 200
# Names that tell of nothing: directories that every shell sets, and the users of a machine.
_HARMLESS = {"PWD", "OLDPWD", "getent_passwd"}
# What is said of a unit or a package, whose own name may be any word (service_facts, package_facts).
_OF_A_PROGRAM = {
    "name", "source", "state", "status", "version", "arch", "release", "epoch", "category", "origin", "priority",
    "section",
}  # fmt: skip
_REFERENCE = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*(?:\|[^{}]*)?-?\}\}")


# A line that begins an object or a list of them.
_JSON = re.compile(r"\n(?=\{\s*\"|\[\s*[{\[\"])")
# To find that it was no JSON takes as long as this, and as it took to get there: Python counts the lines up to it.
_A_TRY = 1_000
_MOST_TRIED = 16 * LONGEST_JSON
_decode = json.JSONDecoder().raw_decode


def _has_names(value: object) -> bool:
    """Whether there may be names in a value, as in a text with a line that looks like JSON."""
    if isinstance(value, str):
        return value[:1] in ("{", "[") or "\n{" in value or "\n[" in value
    # Most values are numbers, of which Python would take long to say that they are no Mapping.
    return not isinstance(value, (int, float)) and isinstance(value, (Mapping, list))


def _from_json(text: str) -> Iterator[object]:
    """What a program or a server answers is JSON as often as not, and a later task takes a field of it.

    It may be several documents, or come after a warning; each begins a line.
    """
    if len(text) > LONGEST_JSON or not _hinted(text):
        return
    text, end, left = f"\n{text}", 0, _MOST_TRIED
    while left > 0 and (line := _JSON.search(text, end)):
        try:
            document, end = _decode(text, line.end())
        except json.JSONDecodeError as error:
            left -= error.pos + _A_TRY  # it only began like it
            end = line.end()
        except (ValueError, RecursionError):
            return  # beyond what Python reads
        else:
            yield document


def _forms(value: str) -> set[str]:
    """Return how a value looks where it turns up."""
    raw = _bytes(value)
    found = {value, quote(raw, safe=""), quote(raw), quote_plus(raw)}
    found |= _in_base64(raw)
    found |= _in_python(value)
    if "'" in value:
        found |= {value.replace("'", apart) for apart in ("'\"'\"'", r"'\''")}
    found.add(_OF_THE_SHELL.sub(r"\\\1", value))
    # A value of several lines turns up line by line in stdout_lines and in logs.
    found |= {line.strip() for line in value.splitlines() if len(line.strip()) >= 8}
    once = _in_json(value)
    return found.union(once, (json.dumps(form)[1:-1] for form in once))


def _bytes(text: str) -> bytes:
    """Return a text as bytes, where it may have come from some that are not UTF-8."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def _in_python(text: str) -> set[str]:
    """Return a text as Python writes it in a list or a mapping, whichever quotes are around it."""
    written = repr(f'"{text}')[2:-1]
    return {written, written.replace(r"\'", "'")}


def _in_base64(value: bytes) -> set[str]:
    """Return a value in base64, alone or with a line's end, and the lines that it fills, whatever follows it."""
    whole = {base64.b64encode(value + end).decode() for end in (b"", b"\n")}
    # Three bytes are four letters, whatever the next ones are.
    begun = base64.b64encode(value[: len(value) // 3 * 3]).decode()
    return whole | {
        line
        for text in (*whole, begun)
        for start in range(0, len(text), _BASE64_LINE)
        if len(line := text[start : start + _BASE64_LINE]) >= 8
    }


def _in_json(text: str) -> set[str]:
    """Return a text as encoders write it between the quotes of JSON."""
    found: set[str] = set()
    for written in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        for form in (written, written.translate(_GO), written.replace("/", r"\/")):
            found |= {form, _SMALL_HEX.sub(lambda escape: r"\u" + escape[0][2:].upper(), form)}
    return found


class Redactor:
    """Knows the secret names and values of one run."""

    def __init__(self, keys: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        """`keys` are regular expressions beside the built-in ones, `values` texts that may never leave.

        Raises re.error for an expression that isn't one.
        """
        self._given_keys = [re.compile(key, re.IGNORECASE) for key in keys]
        given = (f"(?:{key.pattern})" for key in self._given_keys)
        self._keys = re.compile("|".join([KEYS, *given]), re.IGNORECASE)
        self._known_keys: dict[str, bool] = {}
        self._known: list[str] = []
        # Each known text, in every form.
        self._values: dict[str, None] = {}
        # One of these is in every text that has any form of a value, and how they look inside JSON.
        self._signs: dict[str, str] = {}
        self._ordered = True
        # With many of them, what they begin with, by its length.
        self._beginnings: dict[int, set[str]] = {}
        self._named: set[str] = set()
        self._templates: dict[str, None] = {}
        self._fresh: list[str] = []
        self._learnt = 0
        # Names of hosts, which are told anyway, and so are learnt of nothing.
        self.hosts: Container[str] = ()
        self._called: dict[str, str] = {}
        self._taken: set[str] = set()
        # Whether there was more to learn than can be kept.
        self.full = False
        # How much of a text's end may be part of a secret that goes on after it.
        self.longest = 4_096
        for value in values:
            self._add(value)

    def is_secret_key(self, key: str) -> bool:
        known = self._known_keys.get(key)
        if known is None:
            known = self._known_keys[key] = key in self._named or (
                key not in _HARMLESS and self._keys.search(key) is not None
            )
            if len(self._known_keys) > 10_000:
                self._known_keys.clear()
        return known

    def hidden_fields(self, value: Mapping[Any, object]) -> tuple[str, ...]:
        """Return the fields of a mapping that are secret for what it is, whatever they are called."""
        named = value.get("name")
        if isinstance(named, str) and "value" in value and self.is_secret_key(named):
            return ("value",)  # {name: DB_PASSWORD, value: ...} of a container's environment
        kind = value.get("kind")
        if isinstance(kind, str) and kind == "Secret":
            return ("data", "stringData")
        if value.get("echo") is False:
            return ("user_input",)  # what was typed unseen at a pause
        return ()

    def is_known(self, text: str) -> bool:
        """Whether a text is nothing but a value that is taken out."""
        return text in self._values

    def is_secret_option(self, word: str) -> bool:
        """Whether the next word of a command line is a secret, as after --token."""
        return word.startswith("-") and _OPTION.match(word) is not None

    def learn(self, value: object) -> None:
        """Take a value that stood behind a secret name out of everything from now on."""
        waiting, left = [value], MOST_SEARCHED
        while waiting and left > 0:
            left -= 1
            value = waiting.pop()
            if isinstance(value, Mapping):
                if "changed" in value:
                    waiting += self._learn_registered(value)
                elif not ("name" in value and "source" in value and _OF_A_PROGRAM.issuperset(value)):
                    waiting.extend(value.values())
            elif isinstance(value, (list, tuple)):
                waiting.extend(value)
            elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
                with contextlib.suppress(ValueError):  # Python refuses to write out thousands of digits
                    self._learn_text(str(value))

    def _learn_text(self, text: str) -> None:
        if "{{" in text:
            # What a secret option is given is a secret wherever it comes from.
            if found := _REFERENCE.fullmatch(text.strip()):
                self.learn_name(found[1])
            if len(self._templates) < MOST_TEMPLATES:
                self._templates[text] = None
            return
        if len(text) < SHORTEST_LEARNT or text in self._values:
            return
        if text in (MASK, "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER") or text in OWN_WORDS or text in self.hosts:
            return
        if self._learnt >= MOST_LEARNT:
            self.full = True
            return
        self._learnt += 1
        self._fresh.append(text)
        self._add(text)

    def _learn_registered(self, result: Mapping[str, object]) -> list[object]:
        """Of a result that somebody kept under a secret name: what a program said, but not its command line.

        Returns the results of its items.
        """
        self.learn_arguments(result)
        for name in ("stdout", "content", "value"):
            said = result.get(name)
            if isinstance(said, str) and len(word := said.strip()) >= 8 and not re.search(r"\s", word):
                self._learn_text(word)
        return items if isinstance(items := result.get("results"), list) else []

    def learn_name(self, name: str) -> None:
        """Take the values of this name, a variable's, for secrets from now on."""
        if not self.is_secret_key(name):
            self._named.add(name)
            self._known_keys[name] = True

    def templates(self) -> list[str]:
        """Return the templates that stood behind secret names since the last call: their values are secrets."""
        found = list(self._templates)
        self._templates.clear()
        return found

    def fresh(self) -> list[str]:
        """Return the values that were learnt since the last call, for the helper, which has progress to search."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def learn_environment(self, environment: Mapping[str, object]) -> None:
        for given, value in environment.items():
            name = str(given)
            telling = _ENVIRONMENT.search(name) or any(key.search(name) for key in self._given_keys)
            if telling and not _NOT_A_VALUE.search(name):
                self.learn(value)

    def learn_task(self, arguments: object, environments: Iterable[object]) -> None:
        """Find secrets among a task's arguments and in its keyword `environment`, templates or what they came to."""
        self.learn_arguments(arguments)
        for environment in environments:
            if isinstance(environment, Mapping):
                self.learn_environment(environment)

    def learn_arguments(self, arguments: object) -> None:
        """Find secrets among a task's arguments, variables or facts, which themselves are never sent."""
        waiting, left = [arguments], MOST_SEARCHED
        while waiting and left > 0:
            value = waiting.pop()
            if isinstance(value, Mapping):
                left -= len(value)
                hidden = self.hidden_fields(value)
                for key, inner in value.items():
                    if self.is_secret_key(str(key)) or key in hidden:
                        self.learn(inner)
                    elif _has_names(inner):
                        waiting.append(inner)
            elif isinstance(value, list):
                left -= len(value)
                waiting += [inner for inner in value if _has_names(inner)]
            elif isinstance(value, str):
                waiting += _from_json(value)

    def learn_result(self, result: Mapping[str, object], but: Container[str] = ()) -> None:
        """Find secrets in all that a result has, told or not, in each of its fields but those for themselves."""
        hidden = self.hidden_fields(result)
        for name, value in result.items():
            if name in hidden or self.is_secret_key(name):
                self.learn(value)
            elif _has_names(value) and name not in but:
                self.learn_arguments(value)

    def known(self) -> list[str]:
        """Return all values that are taken out, for the helper, which has progress to search."""
        return list(self._known)

    def _add(self, value: str) -> None:
        if not value:
            return
        self._known.append(value)
        forms = sorted(_forms(value), key=len)
        self._values |= dict.fromkeys(forms)
        self.longest = max(self.longest, len(forms[-1]))
        # No form but base64 changes such letters.
        plain = max(_PLAIN.findall(value), key=len, default="")
        signs = [plain] if len(plain) >= SHORTEST_LEARNT else []
        for form in forms:
            if not any(sign in form for sign in signs[:_MOST_SIGNS]):
                signs.append(form)
        self._signs |= {sign: json.dumps(sign)[1:-1] for sign in signs}
        self._ordered = False

    def _order(self) -> None:
        # Longest first, so that a value that contains another is taken out whole.
        self._values = dict.fromkeys(sorted(self._values, key=len, reverse=True))
        self._beginnings = {}
        if len(self._signs) > FEW_FORMS:
            for beginning in {inside[:_BEGINNING] for inside in self._signs.values()}:
                self._beginnings.setdefault(len(beginning), set()).add(beginning)
        self._ordered = True

    def suspects(self, encoded: str) -> bool:
        """Whether a JSON text may hold something to take out."""
        if not self._ordered:
            self._order()
        if self._beginnings:
            return self._begins(encoded) or _hinted(encoded)
        for inside in self._signs.values():
            if inside in encoded:
                return True
        return _hinted(encoded)

    def _begins(self, encoded: str) -> bool:
        """Whether a known value may begin somewhere: takes as long for a thousand of them as for a few."""
        return any(
            encoded[start : start + length] in beginnings
            for length, beginnings in self._beginnings.items()
            for start in range(len(encoded))
        )

    def text(self, text: str) -> str:
        """Return a text without what is known or looks like a credential."""
        if not self._ordered:
            self._order()
        for sign in self._signs:
            if sign in text:
                text = self._without_values(text)
                break
        if _hinted(text):
            for pattern, replacement in _PATTERNS:
                text = pattern.sub(replacement, text)
        return text

    def _without_values(self, text: str) -> str:
        for value in self._values:
            if value in text:
                text = text.replace(value, MASK)
        return text

    def cut(self, text: str, longest: int) -> str:
        """Return what a text begins with, without secrets where it is cut.

        Only what has been searched is cut: half of a secret would not be recognised afterwards. What is far beyond the
        cut needs no search, but a value at the edge of what was searched may be halved there.
        """
        if len(text) <= longest:
            return text
        window = text[: 2 * longest + self.longest]
        searched = self.text(window)
        if len(window) < len(text):
            searched = searched[: -self.longest]
        return searched[:longest]

    def host(self, name: str) -> str:
        """Return what a host is called in everything that is told: always the same, and never as another one is."""
        called = self._called.get(name)
        if called is None:
            called = self._called[name] = _apart(self.text(name), self._taken)
            self._taken.add(called)
        return called

    def scrub(self, data: Mapping[str, object]) -> dict[str, Any]:
        """Return an event's data with `scrubbed` applied to all but what it has of its own words."""
        return {
            field: inner if field in _OWN_FIELDS else self.scrubbed(inner) for field, inner in data.items()
        }

    def scrubbed(self, value: object) -> object:
        """Return plain JSON data with `text` applied to every text in it, also to what is called by one."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            kept: dict[str, object] = {}
            for key, inner in value.items():
                kept[key if key in OWN_WORDS else _apart(self.text(key), kept)] = self.scrubbed(inner)
            return kept
        if isinstance(value, list):
            return [self.scrubbed(inner) for inner in value]
        return value


def _apart(name: str, taken: Container[str]) -> str:
    """Return a name, with a number in its mask where there is one like it already."""
    begin, _mask, end = name.partition(MASK)
    number = 1
    while name in taken:
        number += 1
        name = f"{begin}{MASKED} {number}>{end}"
    return name
