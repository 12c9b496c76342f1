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
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
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
# A word begins or ends after a small letter and before a capital one too.
_EDGE = r"(?-i:(?<=[a-z0-9])(?=[A-Z]))"
# Names of options, environment variables and fields that hold a secret.
KEYS = (
    r"pass[-_]?(?:word|wd|phrase|code)|secret|token|api[-_]?key|access[-_]?key|private[-_]?key"
    r"|client[-_]?key|(?:certificate|client|ca)[-_]?(?:authority)?[-_]?data|kube[-_]?config|credential|authorization"
    r"|^auth$|cookie|bearer"
    rf"|(?:^|[-_]|{_EDGE}|db|user|admin|root|bind|ssh)(?:pass|pwd?)[0-9]*(?:$|[-_]|{_EDGE})"
    rf"|(?:^|[-_]|{_EDGE})(?:session[-_]?id|psk|otp|otp[-_]?pin|pin[-_]?code"
    r"|(?:encryption|decryption|signing|tls|ssl|ssh|master|shared|session|account|storage|deploy)[-_]?key)$"
)
# One of these is in every name that the built-in ones find.
_IN_NAMES = (
    "pass", "pw", "secret", "token", "key", "data", "config", "credential", "auth", "cookie", "bearer",
    "session", "psk", "otp", "pin",
)  # fmt: skip
# The same words where a program's output or arguments have them: name=value, "name": "value", --name value.
_WORDS = (
    r"pass[-_]?(?:word|wd|phrase)|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|key-data|credential"
)
# Of a name, before such a word or after it. Without an end, a text made of such words would take time by its square.
_REST = r"[\w-]{0,64}"
_VALUE = r"(?:\"[^\"\\]*(?:\\.[^\"\\]*)*\"?|'[^']*'?|[^\s\"'<,;&]+)"
_PATTERNS = (
    # scheme://user:password@host, and a token in place of the user
    (
        re.compile(r"(://)(?:[^\s\"'/\\<>]+|[^\s\"'/:@\\<>]+(?::(?!//)[^\s\"'\\<>@:]*)+)@"),
        rf"\1{MASK}@",
    ),
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        MASK,
    ),
    (re.compile(r"\beyJ(?:(?!\beyJ)[\w-]){8,}\.[\w-]{4,}\.[\w-]*"), MASK),
    (re.compile(r"(?i)(\bauthorization\b[\"']?\s*[:=]\s*[\"']?)[^\"'\r\n<]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}"), rf"\1{MASK}"),
    (
        re.compile(rf"(?i)((?:{_WORDS}){_REST}[\"']?\s*(?:[=!]=(?=\s*(?:\"[^\"]|'[^']))|[=:])\s*){_VALUE}"),
        rf"\1{MASK}",
    ),
    # A variable of the environment: "pass=3" by itself is a count, and a PWD may be a directory. It begins with a
    # letter, for which a text is looked through quickly.
    (
        re.compile(
            r"(P(?:(?<=[A-Z0-9]_P)|(?<=DBP)|(?<=USERP)|(?<=ADMINP)|(?<=ROOTP)|(?<=BINDP)|(?<=SSHP))"
            rf"(?:(?:ASS|W)[0-9]*=|WD[0-9]*=(?!/))){_VALUE}"
        ),
        rf"\1{MASK}",
    ),
    (
        re.compile(rf"(?i)((?<!\S)--?{_REST}(?:{_WORDS}){_REST}\s+)(?:\"[^\"]*\"|'[^']*'|[^\s\"'<-]\S*)"),
        rf"\1{MASK}",
    ),
)
# One of these is in every text that a pattern could change. They are looked for first, because `in` costs less than
# a hundredth of what the patterns cost.
_HINTS = (
    "://",
    "private",
    "eyj",
    "authorization",
    "bearer",
    "pass",
    "pw",
    "secret",
    "token",
    "key",
    "credential",
)


def _hinted(text: str, hints: tuple[str, ...] = _HINTS) -> bool:
    low = text.lower()
    for hint in hints:  # noqa: SIM110 (twice as fast as `any`, and every event comes by here)
        if hint in low:
            return True
    return False


_OPTION = re.compile(rf"(?i)^--?{_REST}(?:{_WORDS}){_REST}$")
# Names of environment variables that are no secrets, whatever else is in them.
_NOT_A_VALUE = re.compile(r"(?:_FILE|_PATH|_DIR|_URL|_SOCK|_NAME|_ID|KUBE_?CONFIG)$", re.IGNORECASE)

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
_LARGE_HEX = re.compile(r"%[0-9A-F]{2}")
# What bash puts a backslash before, as in `printf %q`, and between double quotes, as in `declare -p`.
_OF_THE_SHELL = re.compile(r"([ !\"$&'()*,;<>?\[\\\]^`{|}])")
_IN_DOUBLE_QUOTES = re.compile(r"([\"$\\`])")
# What bash writes between $' and ', where a text has letters that can't be seen.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f]")
_IN_ANSI_C = {number: f"\\{number:03o}" for number in (*range(0x20), 0x7F)} | str.maketrans(
    {"\a": r"\a", "\b": r"\b", "\t": r"\t", "\n": r"\n", "\v": r"\v", "\f": r"\f", "\r": r"\r", "\x1b": r"\E"}
    | {"'": r"\'", "\\": r"\\"}
)
# What JavaScript's encodeURIComponent leaves as it is.
_OF_JAVASCRIPT = "!'()*"
_OF_BASE64URL = str.maketrans("+/", "-_")
_PLAIN = re.compile(r"[A-Za-z0-9]+")
# A name, a path or another word of an event that is no result's is no longer than this; the schema says so.
LONGEST_WORD = 1_024
# A text that is searched for secrets as JSON is no longer than this, which takes 25 ms.
LONGEST_JSON = 1_048_576
# What is searched at once for telling names has no more values than this; the facts of a large machine have 5,000, and
# take 6 ms.
MOST_SEARCHED = 20_000
# Templates behind telling names that wait for somebody who has variables, and those of a play's tasks.
MOST_TEMPLATES = MOST_LEARNT
# What is longer is looked for in pieces as well, since a text may be cut within it.
LONGEST_FORM = 4_096
# Names that tell of nothing: directories that every shell sets, and the users of a machine.
_HARMLESS = {"PWD", "OLDPWD", "getent_passwd"}
# What is said of a unit or a package, whose own name may be any word (service_facts, package_facts), and by whom.
_OF_A_PROGRAM = {
    "name", "source", "state", "status", "version", "arch", "release", "epoch", "category", "origin", "priority",
    "section",
}  # fmt: skip
_OF_MANAGERS = {
    "systemd", "sysv", "upstart", "openrc", "rcctl", "src",
    "rpm", "apt", "apk", "pacman", "pkg", "pkg_info", "portage",
}  # fmt: skip
_REFERENCE = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*(?:\|[^{}]*)?-?\}\}")


# The beginning of a text that may be JSON as a whole, and a line that begins an object or a list of them.
_BLANKS = "\ufeff \t\r\n"
_ALL_JSON = re.compile(rf"[{_BLANKS}]*(?=[{{\[])")
_JSON = re.compile(r"\n(?=\{\s*\"|\[\s*[{\[\"])")
# To find that it was no JSON takes as long as this, and as it took to get there: Python counts the lines up to it.
_A_TRY = 1_000
_MOST_TRIED = 16 * LONGEST_JSON
_decode = json.JSONDecoder().raw_decode


def _has_names(value: object) -> bool:
    """Whether there may be names in a value, as in a text with a line that looks like JSON."""
    if isinstance(value, str):
        return value.lstrip(_BLANKS)[:1] in ("{", "[") or "\n{" in value or "\n[" in value
    # Most values are numbers, of which Python would take long to say that they are no Mapping.
    return not isinstance(value, (int, float)) and isinstance(value, (Mapping, list))


def _from_json(text: str) -> Iterator[object]:
    """What a program or a server answers is JSON as often as not, and a later task takes a field of it.

    It may be several documents, or come after a warning; each but the first begins a line.
    """
    if len(text) > LONGEST_JSON:
        return
    begun, left = _ALL_JSON.match(text) or _JSON.search(text), _MOST_TRIED
    while left > 0 and begun:
        try:
            document, end = _decode(text, begun.end())
        except json.JSONDecodeError as error:
            left -= error.pos + _A_TRY  # it only began like it
            end = begun.end()
        except (ValueError, RecursionError):
            return  # beyond what Python reads
        else:
            yield document
        begun = _JSON.search(text, end)


def _forms(value: str) -> set[str]:
    """Return how a value looks where it turns up."""
    raw = _bytes(value)
    found = _in_addresses(raw) | _in_base64(raw)
    found.add(value)
    found |= _in_python(value)
    if "'" in value:
        found |= {value.replace("'", apart) for apart in ("'\"'\"'", r"'\''")}
    found |= {quoted.sub(r"\\\1", value) for quoted in (_OF_THE_SHELL, _IN_DOUBLE_QUOTES)}
    if _UNSEEN.search(value):
        found.add(value.translate(_IN_ANSI_C))
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


def _in_addresses(value: bytes) -> set[str]:
    """Return a value as it is in an address, whoever wrote it."""
    found = {quote(value, safe=safe) for safe in ("", "/", _OF_JAVASCRIPT)} | {quote_plus(value)}
    return found | {_LARGE_HEX.sub(lambda escape: escape[0].lower(), form) for form in found}


def _in_python(text: str) -> set[str]:
    """Return a text as Python writes it in a list or a mapping, whichever quotes are around it."""
    written = repr(f'"{text}')[2:-1]
    return {written, written.replace(r"\'", "'")}


def _in_base64(value: bytes) -> set[str]:
    """Return a value in base64, alone or with a line's end, and the lines that it fills, whatever follows it."""
    whole = {base64.b64encode(value + end).decode() for end in (b"", b"\n")}
    # Three bytes are four letters, whatever the next ones are.
    begun = base64.b64encode(value[: len(value) // 3 * 3]).decode()
    whole |= {text.translate(_OF_BASE64URL) for text in whole}
    return whole | {
        line
        for text in (*whole, begun, begun.translate(_OF_BASE64URL))
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


def _is_of_a_program(value: Mapping[Any, object]) -> bool:
    manager = value.get("source")
    return (
        isinstance(manager, str)
        and manager in _OF_MANAGERS
        and "name" in value
        and _OF_A_PROGRAM.issuperset(value)
    )


def _pieces(form: str) -> Iterator[str]:
    """Cut a form that is too long to be looked for as a whole in what is cut itself; the last piece is never short."""
    start, step = 0, LONGEST_FORM // 2
    while len(form) - start > LONGEST_FORM:
        yield form[start : start + step]
        start += step
    yield form[start:]


def _decoded(encoded: object) -> str | None:
    """Return the text that a Secret has in base64, of which that is a form; None where it can't be known by it."""
    try:
        decoded = base64.b64decode(encoded, validate=True).decode() if isinstance(encoded, str) else ""
    except ValueError:
        return None
    known = len(decoded) >= SHORTEST_LEARNT and base64.b64encode(decoded.encode()).decode() == encoded
    return decoded if known else None


def with_kinds(value: Mapping[Any, object]) -> Mapping[Any, object]:
    """Return a list of Secrets with the kind in each of them, where the API server leaves it out."""
    if value.get("kind") != "SecretList" or not isinstance(items := value.get("items"), list):
        return value
    return {
        **value,
        "items": [{**item, "kind": "Secret"} if isinstance(item, Mapping) else item for item in items],
    }


class Redactor:
    """Knows the secret names and values of one run."""

    def __init__(self, keys: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        """`keys` are regular expressions beside the built-in ones, `values` texts that may never leave.

        Raises re.error for an expression that isn't one.
        """
        given = [f"(?:{re.compile(key, re.IGNORECASE).pattern})" for key in keys]
        # Whether there are names beside the built-in ones.
        self._other_names = bool(given)
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
        # Tells templates from values that only have the same braces.
        self.is_template: Callable[[str], bool] = lambda text: False
        self._called: dict[str, str] = {}
        self._taken: set[str] = set()
        # Whether there was more to learn than can be kept.
        self.full = False
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
        named = value.get("name", value.get("key"))
        if isinstance(named, str) and "value" in value and self.is_secret_key(named):
            # {name: DB_PASSWORD, value: ...} of a container's environment, {key: ...} of dict2items
            return ("value",)
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

    def learn(self, value: object, templates: bool = False) -> None:
        """Take a value that stood behind a secret name out of everything from now on.

        `templates` says that it was in a template, so that braces in it are ones too.
        """
        waiting, left = [value], MOST_SEARCHED
        while waiting and left > 0:
            left -= 1
            value = waiting.pop()
            if isinstance(value, Mapping):
                if isinstance(value.get("changed"), bool):
                    waiting += self._learn_registered(value)
                elif not _is_of_a_program(value):
                    waiting.extend(value.values())
            elif isinstance(value, (list, tuple)):
                waiting.extend(value)
            elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
                with contextlib.suppress(ValueError):  # Python refuses to write out thousands of digits
                    self._learn_text(value if isinstance(value, str) else str(value), templates)

    def _learn_text(self, text: str, templates: bool = False) -> None:
        if "{{" in text and (templates or self.is_template(text)):
            # What a secret option is given is a secret wherever it comes from.
            if found := _REFERENCE.fullmatch(text.strip()):
                self.learn_name(found[1])
            if text in self._templates or len(self._templates) < MOST_TEMPLATES:
                self._templates[text] = None
            else:
                self.full = True
            return
        text = str(text)  # without Ansible's tags
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

    def _learn_field(
        self, name: object, value: object, hidden: Container[object], templates: bool = False
    ) -> None:
        """Learn a secret field of a mapping, of which these are `hidden`.

        What a Secret has is learnt decoded where it is text, and then what is in that behind telling names too.
        """
        if name != "data" or name not in hidden or not isinstance(value, Mapping):
            self.learn(value, templates)
            return
        for key, encoded in value.items():
            # The namespace in the token of a service account is no secret.
            decoded = None if key == "namespace" else _decoded(encoded)
            self.learn(encoded if decoded is None else decoded, templates)
            if decoded is not None:
                self.learn_arguments(decoded)

    def learn_name(self, name: str) -> None:
        """Take the values of this name, a variable's, for secrets from now on."""
        if not self.is_secret_key(name):
            self._named.add(name)
            self._other_names = True
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
            if self.is_secret_key(name) and not _NOT_A_VALUE.search(name):
                self.learn(value)

    def learn_task(self, arguments: object, environments: Iterable[object]) -> None:
        """Find secrets among a task's arguments and in its keyword `environment`, templates or what they came to."""
        self.learn_arguments(arguments)
        for environment in environments:
            if isinstance(environment, Mapping):
                self.learn_environment(environment)

    def learn_arguments(self, arguments: object) -> None:
        """Find secrets among a task's arguments, variables or facts, which themselves are never sent."""
        self._search(arguments, MOST_SEARCHED)

    def _search(self, value: object, left: int, templates: bool = False) -> int:
        """Find secrets among so many values. Returns how many of these are left."""
        waiting = [value]
        while waiting and left > 0:
            value = waiting.pop()
            if isinstance(value, Mapping):
                left -= len(value)
                value = with_kinds(value)
                hidden = self.hidden_fields(value)
                for key, inner in value.items():
                    if key in hidden or self.is_secret_key(str(key)):
                        self._learn_field(key, inner, hidden, templates)
                    elif _has_names(inner):
                        waiting.append(inner)
            elif isinstance(value, list):
                left -= len(value)
                waiting += [inner for inner in value if _has_names(inner)]
            elif isinstance(value, str):
                if not self._other_names and not _hinted(value, _IN_NAMES):
                    continue
                within = templates or ("{{" in value and self.is_template(value))
                for document in _from_json(value):
                    left = self._search(document, left, within)
        return left

    def learn_result(self, result: Mapping[str, object], but: Container[str] = ()) -> None:
        """Find secrets in all that a result has, told or not, in each of its fields but those for themselves."""
        result = with_kinds(result)
        hidden = self.hidden_fields(result)
        for name, value in result.items():
            if name in hidden or self.is_secret_key(name):
                self._learn_field(name, value, hidden)
            elif _has_names(value) and name not in but:
                self.learn_arguments(value)

    def known(self) -> list[str]:
        """Return all values that are taken out, for the helper, which has progress to search."""
        return list(self._known)

    def _add(self, value: str) -> None:
        if not value:
            return
        self._known.append(value)
        whole = _forms(value)
        forms = sorted(whole.union(*map(_pieces, whole)), key=len)
        self._values |= dict.fromkeys(forms)
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
        return self._may_have(encoded) or _hinted(encoded)

    def _may_have(self, encoded: str) -> bool:
        """Whether a known value may be in a JSON text."""
        if self._beginnings:
            return self._begins(encoded)
        for inside in self._signs.values():  # noqa: SIM110 (faster than `any`)
            if inside in encoded:
                return True
        return False

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
        if self._beginnings:
            if self._begins(json.dumps(text)):
                text = self._without_values(text)
        else:
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
        window = text[: 2 * longest + LONGEST_FORM]
        searched = self.text(window)
        if len(window) < len(text):
            searched = searched[:-LONGEST_FORM]
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
