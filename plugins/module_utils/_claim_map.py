# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The map: one YAML file that says for each claim which one is its counterpart. Read, checked and asked here.

Patterns match whole names; what a `*` stands for can be used in the target as `{1}`, `{2}`, and so on. The first rule
that matches decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._errors import UsageError
from ._quantity import from_bytes, to_bytes

ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
# Credentials don't belong into a file that is meant to be read and shared.
CONNECTION = ("kubeconfig", "context")

# What is smaller lacks its unit.
_SMALLEST = 1 << 20

_TOP = {"target", "create", "storage_classes", "rules"}
_RULE = {"source", "target", "skip", "create", "storage_class", "access_modes", "size"}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NEVER_IN_NAMES = re.compile(r"[^a-z0-9.*/-]")
_NEVER_IN_NAMESPACES = re.compile(r"\.[^/]*/")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Source:
    """What the map wants to know of a claim. `size` is in bytes: its capacity, or what it asks for."""

    namespace: str
    claim: str
    storage_class: str = ""
    access_modes: Sequence[str] = ()
    size: int = 0


@dataclass(frozen=True)
class Counterpart:
    """The claim that a source is copied to. `size` is a quantity; an empty `storage_class` is the cluster's default."""

    namespace: str
    claim: str
    storage_class: str
    access_modes: Sequence[str]
    size: str
    create: bool
    connection: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rule:
    number: int
    pattern: re.Pattern[str]
    said: Mapping[str, Any]

    @property
    def source(self) -> str:
        return str(self.said["source"])

    @property
    def where(self) -> str:
        return f"rule {self.number} ({self.source})"


class ClaimMap:
    """The map in `data`, as YAML gives it. Raises UsageError, which names the place, for what can't be meant."""

    def __init__(self, data: object, name: str = "the map") -> None:
        self._name = name
        if not isinstance(data, dict):
            raise UsageError(f"{name} isn't a dictionary: give rules, a list with source and target in each.")
        self._check_keys(data, _TOP, "")
        self._connection = self._strings(data.get("target"), "target")
        self._check_keys(self._connection, {*CONNECTION}, "target: ")
        self._classes = self._strings(data.get("storage_classes"), "storage_classes")
        for each in (*sorted(self._classes.keys() - {"*"}), *self._classes.values()):
            self._class(each, "storage_classes")
        self._create = self._bool(data.get("create", False), "create")
        rules = data.get("rules")
        if not isinstance(rules, list) or not rules:
            raise UsageError(f"{name} has no rules: give a list with source and target in each.")
        self._rules: list[_Rule] = []
        for number, rule in enumerate(rules, 1):
            self._add(self._rule(number, rule))

    def counterpart(self, source: Source) -> Counterpart | None:
        """The counterpart of a claim; None if a rule skips it. Raises KeyError if no rule matches."""
        for rule in self._rules:
            found = rule.pattern.fullmatch(f"{source.namespace}/{source.claim}")
            if found:
                return None if rule.said.get("skip") else self._apply(rule, source, found.groups())
        raise KeyError(f"{source.namespace}/{source.claim}")

    def idle(self, claims: Collection[str], namespaces: Collection[str]) -> list[str]:
        """The rules for one claim, in one of `namespaces` or in any, that is none of `claims`; as rule N (source)."""
        found = []
        for rule in self._rules:
            namespace = rule.source.partition("/")[0]
            if "*" in rule.source or rule.source in claims:
                continue
            if not namespaces or namespace in namespaces:
                found.append(rule.where)
        return found

    def namespaces(self) -> set[str]:
        """The namespaces of the rules for one claim."""
        return {rule.source.partition("/")[0] for rule in self._rules if "*" not in rule.source}

    def _apply(self, rule: _Rule, source: Source, stars: Sequence[str]) -> Counterpart:
        words = {"namespace": source.namespace, "claim": source.claim, "storage_class": source.storage_class}
        words |= {str(number): star for number, star in enumerate(stars, 1)}

        def word(found: re.Match[str]) -> str:
            if found[1] not in words:
                raise UsageError(
                    f"{self._name}, {rule.where}: {{{found[1]}}} stands for nothing: use namespace, claim, "
                    f"storage_class or a number up to {len(stars)}, one for each * of the source."
                )
            return words[found[1]]

        target = re.sub(r"\{(\w*)\}", word, str(rule.said.get("target") or "{namespace}/{claim}"))
        namespace, _slash, claim = target.partition("/")
        if not _NAMESPACE.fullmatch(namespace) or not _NAME.fullmatch(claim):
            raise UsageError(
                f"{self._name}, {rule.where}: {target!r} can't be a namespace and a claim: write namespace/claim."
            )
        other = self._classes.get("*", source.storage_class)
        translated = self._classes.get(source.storage_class, other)
        return Counterpart(
            namespace=namespace,
            claim=claim,
            storage_class=rule.said.get("storage_class", translated),
            access_modes=tuple(rule.said.get("access_modes") or source.access_modes),
            size=_size(rule.said.get("size"), source.size),
            create=bool(rule.said.get("create", self._create)),
            connection=self._connection,
        )

    def _add(self, rule: _Rule) -> None:
        for earlier in self._rules:
            # A * of the later source is a letter here, which nothing but a * of the earlier one matches.
            if earlier.pattern.fullmatch(rule.source):
                raise UsageError(
                    f"{self._name}, {rule.where} can never decide, as {earlier.where} matches all that it does: move "
                    "it up, or remove it."
                )
        self._rules.append(rule)

    def _rule(self, number: int, rule: object) -> _Rule:
        where = f"rule {number}"
        if not isinstance(rule, dict) or not isinstance(rule.get("source"), str):
            raise UsageError(f"{self._name}, {where}: no source: give a pattern as in namespace/claim.")
        self._check_keys(rule, _RULE, f"{where}: ")
        if rule["source"].count("/") != 1 or not all(rule["source"].split("/")):
            raise UsageError(f"{self._name}, {where}: {rule['source']!r} has no namespace/claim in it.")
        if odd := _NEVER_IN_NAMES.search(rule["source"]):
            raise UsageError(
                f"{self._name}, {where}: {rule['source']!r} has {odd[0]!r} in it, which no namespace or claim has: "
                "correct it, and write * for what may be anything."
            )
        if _NEVER_IN_NAMESPACES.search(rule["source"]):
            raise UsageError(
                f"{self._name}, {where}: {rule['source']!r} has a dot before the slash, which no namespace has: "
                "correct it."
            )
        for key in ("skip", "create"):
            self._bool(rule.get(key, False), f"{where}: {key}")
        if "target" in rule and not (isinstance(rule["target"], str) and rule["target"]):
            raise UsageError(
                f"{self._name}, {where}: target must be text, as in namespace/claim: without it, the names are the "
                "source's."
            )
        if rule.get("skip") and "target" in rule:
            raise UsageError(
                f"{self._name}, {where}: what is left out has no target: remove skip, or target."
            )
        if not isinstance(rule.get("storage_class", ""), str):
            raise UsageError(f"{self._name}, {where}: storage_class must be text.")
        self._class(rule.get("storage_class", ""), f"{where}: storage_class")
        modes = rule.get("access_modes") or []
        if not isinstance(modes, list) or any(mode not in ACCESS_MODES for mode in modes):
            raise UsageError(f"{self._name}, {where}: access_modes is a list of {', '.join(ACCESS_MODES)}.")
        if "ReadWriteOncePod" in modes and len(modes) > 1:
            raise UsageError(f"{self._name}, {where}: access_modes: ReadWriteOncePod goes with no other one.")
        try:
            _size(rule.get("size"), 1)
        except UsageError as exc:
            raise UsageError(f"{self._name}, {where}: size: {exc}") from None
        return _Rule(number, _pattern(rule["source"]), rule)

    def _check_keys(self, data: Mapping[str, Any], known: set[str], where: str) -> None:
        unknown = sorted(str(key) for key in data if key not in known)
        if unknown:
            raise UsageError(
                f"{self._name}, {where}{unknown[0]} isn't known: there are {', '.join(sorted(known))}."
            )

    def _strings(self, data: object, where: str) -> dict[str, str]:
        if data is None:
            return {}
        if not isinstance(data, dict) or not all(isinstance(each, str) for each in (*data, *data.values())):
            raise UsageError(f"{self._name}, {where}: names and values must be text.")
        return data

    def _class(self, name: str, where: str) -> None:
        """Raises UsageError for what no storage class is called; the empty one is the cluster's default."""
        if name and not _NAME.fullmatch(name):
            raise UsageError(
                f"{self._name}, {where}: {name!r} is no name of a storage class: write whole names, and * alone for "
                "all others."
            )

    def _bool(self, value: object, where: str) -> bool:
        if not isinstance(value, bool):
            raise UsageError(f"{self._name}, {where} must be true or false.")
        return value


def host_of(namespace: str, claim: str) -> str:
    """The name that a claim has as a host. No namespace has a dot in it, so no other claim has the same."""
    return f"{namespace}.{claim}"


def rivals(targets: Mapping[str, Mapping[str, str]]) -> set[str]:
    """The sources whose counterparts have the names of another's counterpart; by `targets` they are in two clusters.

    Whether these are one the clusters can tell.
    """
    places: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    for name, target in targets.items():
        places.setdefault((target["namespace"], target["pvc"]), {})[name] = target
    return {
        name
        for there in places.values()
        if any(target != next(iter(there.values())) for target in there.values())
        for name in there
    }


def collisions(targets: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A sentence for each counterpart that several sources have. `targets` are endpoints by the sources' names."""
    taken: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, target in targets.items():
        taken.setdefault(tuple(sorted(target.items())), []).append(name)
    return [
        f"{', '.join(names)} have the same counterpart {target['namespace']}/{target['pvc']}: change the rules, so "
        "that each has its own."
        for names in taken.values()
        if len(names) > 1
        for target in [targets[names[0]]]
    ]


def chains(targets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The sources whose counterparts have the names of another source, with that one's name.

    Whether it is the same claim only the clusters can tell.
    """
    found = {name: host_of(target["namespace"], target["pvc"]) for name, target in targets.items()}
    return {name: other for name, other in found.items() if other != name and other in targets}


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(
        "".join("([^/]*)" if part == "*" else re.escape(part) for part in re.split(r"(\*)", text))
    )


def _size(wanted: object, source: int) -> str:
    """A quantity, or more than the source's in per cent (`+20%`)."""
    if wanted is None:
        return from_bytes(source)
    more = re.fullmatch(r"\+(\d{1,4})%", str(wanted))
    if more:
        mebi = 1 << 20  # storage systems round up anyway, and people read it
        return from_bytes(-(-source * (100 + int(more[1])) // 100 // mebi) * mebi)
    try:
        size = to_bytes(str(wanted))
    except UsageError as exc:
        raise UsageError(f"{str(exc).rstrip('.')}, or as in +20% for more than the source's.") from None
    if size < _SMALLEST and not str(wanted).strip().endswith(("k", "Ki")):
        raise UsageError(
            f"{wanted} is a number of bytes that no volume has: write it with a unit, as in 10Gi."
        )
    return str(wanted)
