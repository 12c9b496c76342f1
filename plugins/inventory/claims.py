# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: claims
short_description: PersistentVolumeClaims as hosts
description:
  - Each claim that matches is a host, so that C(--limit), forks, C(serial), C(strategy) and the job slices of AWX
    spread a migration as they spread anything else. The host's name is C(namespace.claim).
  - With O(map), each host also has the variables of its counterpart. Two claims with the same counterpart are refused,
    whatever kubeconfigs and contexts its cluster has, as is a claim that another inventory has with another cluster or
    counterpart; then none of the file's claims is a host. C(claim_chained) is there where the counterpart has the names
    of a claim that is copied from itself; whether it is that claim, which can't work, is found out by
    M(kubeferry.pvc.pvc_plan).
  - Groups are C(claims) with all hosts that have a counterpart (or with all, where there is no map), C(unmapped) with
    those which no rule of the map matches, and C(namespace_NAME), C(storage_class_NAME) and C(node_NAME) for the
    namespace, the storage class and the node where a pod uses the claim now.
  - Tasks for these hosts run on this machine.
  - A key in the file that is none of these options is an error.
version_added: 0.2.0
author:
  - the kubeferry.pvc contributors (@kubeferry)
extends_documentation_fragment:
  - kubeferry.pvc.endpoint.auth
  - constructed
requirements:
  - python >= 3.11
  - kubernetes >= 24.2.0
options:
  plugin:
    description: Says that the file is for this plugin. Its name ends in C(claims.yml) or C(claims.yaml).
    required: true
    choices: [kubeferry.pvc.claims]
  namespaces:
    description:
      - The namespaces to look in.
      - Without it, all namespaces are, which takes the right to list claims and pods in the whole cluster.
    type: list
    elements: str
    default: []
  label_selector:
    description: Take only claims with these labels, as in V(app=shop,tier!=cache).
    type: str
    default: ''
  names:
    description:
      - Take only claims whose name matches one of these shell patterns.
      - A whole name that no claim has, in these namespaces and with these labels, is an error.
    type: list
    elements: str
    default: []
  storage_classes:
    description: Take only claims whose storage class matches one of these shell patterns.
    type: list
    elements: str
    default: []
  phases:
    description:
      - Take only claims in one of these phases. An empty list takes all.
      - A claim whose whole name is in O(names) is taken in any phase, for the plan to say what is wrong with it. A
        warning names all others that aren't bound to a volume and therefore left out.
    type: list
    elements: str
    choices: [Bound, Pending, Lost, Terminating]
    default: [Bound]
  min_size:
    description: Take only claims of at least this capacity, as in V(10Gi).
    type: str
  max_size:
    description: Take only claims of at most this capacity.
    type: str
  map:
    description:
      - A YAML file, relative to this one, that says which claim each is to be copied to.
      - C(rules) is a list. The first rule whose C(source), as in C(namespace/claim) with C(*) in it, matches a claim
        decides; C(skip) leaves it out, C(target) names the counterpart. In it, C({namespace}), C({claim}) and
        C({storage_class}) are those of the source, and C({1}), C({2}) what the first and the second C(*) stands for.
        Without C(target), the counterpart has the same names.
      - C(*) is the only wildcard. A rule that can never decide, as an earlier one matches all that it does, is an
        error, and so is anything in a C(source) that no name has, as a blank. Where the claim of a C(source) without
        C(*) isn't there, a warning names the rule. Of those for other namespaces than O(namespaces), which may be for
        another inventory with the same map, it names the ones whose namespace doesn't exist, as far as that may be
        looked at.
      - C(storage_class), C(access_modes) and C(size), as in V(20Gi) or V(+20%), are for a counterpart that is to be
        made, which happens where C(create) is true in the rule or for the whole map. By default they are the source's.
        A size without a unit is an error.
      - C(storage_classes) at the top translates storage classes, C(*) alone standing for all others.
      - C(target) at the top has C(kubeconfig) and C(context) of the cluster of the counterparts, where it is another.
        Without a C(kubeconfig) there, it is O(kubeconfig), and without a C(context) as well, O(context).
        As with O(kubeconfig), a relative path is one from the directory that C(ansible-playbook) is started in.
    type: str
notes:
  - What O(compose) makes of C(claim_source) and C(claim_target) isn't checked as what the map says is.
  - Only O(kubeconfig) and O(context) are passed on to the hosts as variables, and no O(host), token or password. Give a
    kubeconfig and a context, C(K8S_AUTH_*) variables, or C(migrate_source_auth) and C(migrate_target_auth) of the role
    C(kubeferry.pvc.migrate). Else the tasks work in the cluster of the default kubeconfig, even where this file names
    another O(host).
  - Relative paths in C(K8S_AUTH_KUBECONFIG) and C(KUBECONFIG) are made absolute, so that tasks, which run in another
    directory, find the same files.
"""

EXAMPLES = r"""
# shop.claims.yml
plugin: kubeferry.pvc.claims
namespaces: [shop, shop-test]
label_selector: app!=cache
max_size: 500Gi
map: migration.yml

# migration.yml
# target: {context: new-cluster}
# create: true
# storage_classes: {standard: fast, "*": slow}
# rules:
#   - {source: "*/tmp-*", skip: true}
#   - {source: shop/*, target: "store/{1}", size: +20%}
#   - {source: "shop-*/*", target: "store-{1}/{2}", access_modes: [ReadWriteMany]}
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

from ansible_collections.kubeferry.pvc.plugins.filter.endpoint import endpoint
from ansible_collections.kubeferry.pvc.plugins.module_utils._claim_map import (
    ClaimMap,
    Counterpart,
    chains,
    collisions,
    host_of,
    rivals,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._claims import (
    choice,
    node_of,
    phase_of,
    source_of,
    users_of,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._cluster import AUTH_KEYS, Cluster, connect
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import (
    Forbidden,
    KubeferryError,
    NotFound,
    UsageError,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._object_names import check_objects
from ansible_collections.kubeferry.pvc.plugins.module_utils._rest import Request

# What an endpoint may take over from the inventory's own connection: no secret.
_SHARED = ("kubeconfig", "context")

_VARIABLES = ("K8S_AUTH_KUBECONFIG", "KUBECONFIG")


@dataclass(frozen=True)
class _Found:
    """A host to be."""

    name: str
    variables: dict[str, Any]
    groups: list[str]


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Hosts, variables and groups of the claims of one cluster."""

    NAME = "kubeferry.pvc.claims"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(("claims.yml", "claims.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:  # noqa: ANN401
        super().parse(inventory, loader, path, cache)
        config = self._read_config_data(path)
        try:
            self._refuse_unknown(config)
            self._fill(path)
        except KubeferryError as exc:
            raise AnsibleParserError(f"{path}: {exc}") from None

    def _refuse_unknown(self, keys: Iterable[object]) -> None:
        """Raises UsageError for what is no option: Ansible passes over it, and the choice would be wider than meant."""
        known = set(self.option_definitions)
        for definition in self.option_definitions.values():
            known.update(definition.get("aliases") or [])
        said = []
        for key in sorted(str(each) for each in keys if each not in known):
            near = get_close_matches(key, known, n=1, cutoff=0.7)
            advice = f"write {near[0]}" if near else f"remove it, or see ansible-doc -t inventory {self.NAME}"
            said.append(f"{key} is no option of this inventory: {advice}.")
        if said:
            raise UsageError(" ".join(said))

    def _refuse_odd_names(self) -> None:
        """Raises UsageError for what can't be a name or a pattern."""
        for option in ("namespaces", "names", "storage_classes"):
            for name in self.get_option(option) or []:
                if not isinstance(name, str):
                    raise UsageError(f"{option}: {name} isn't text: write it in quotes.")
        for namespace in self.get_option("namespaces") or []:
            check_objects({"namespace": namespace})

    def _fill(self, path: str) -> None:
        _make_absolute()
        self._refuse_odd_names()
        auth = {key: self.get_option(key) for key in AUTH_KEYS if self.get_option(key) is not None}
        cluster = connect(auth)
        for text in cluster.warnings:
            self.display.warning(text)
        rules = self._map(path)
        wanted = choice({key: self.get_option(key) for key in self._options})
        found: dict[str, _Found] = {}
        left, names, listed = [], set(), set()
        for namespace in self.get_option("namespaces") or [""]:
            claims, pods = self._ask(cluster, namespace)
            names.update(claim["metadata"]["name"] for claim in claims)
            listed.update(map(_name, claims))
            left += [claim for claim in claims if wanted.passes_over(claim) and not _is_skipped(claim, rules)]
            for claim in filter(wanted.takes, claims):
                near = [pod for pod in pods if pod["metadata"]["namespace"] == claim["metadata"]["namespace"]]
                if host := self._found(claim, near, rules):
                    found[host.name] = host
        if unknown := wanted.unknown(names):
            raise UsageError(
                f"No claim here has the name {' or '.join(unknown)}: correct or remove it in names."
            )
        if rules and (idle := rules.idle(listed, self._looked_in(cluster, rules))):
            self.display.warning(
                f"{path}: no claim here is that of {', '.join(idle)} of the map: correct or remove what is misspelt."
            )
        if left:
            told = ", ".join(f"{_name(claim)} ({phase_of(claim)})" for claim in left)
            self.display.warning(
                f"{path}: claims that aren't Bound are left out: {told}; give a claim's whole name in names, or its "
                "phase in phases, to have it in the inventory."
            )
        elif not found:
            self.display.warning(
                f"{path}: no claim here is chosen: check namespaces, label_selector, names, storage_classes, min_size, "
                "max_size and the map."
            )
        # Before any is added: Ansible keeps the hosts of a file that it then calls unreadable.
        targets = self._check(found)
        for host in found.values():
            self._add(host)
        for name, other in chains(targets).items():
            chained = self.inventory.get_host(other).get_vars()["claim_source"]
            self.inventory.set_variable(name, "claim_chained", chained)

    def _check(self, found: Mapping[str, _Found]) -> dict[str, dict[str, str]]:
        """All counterparts, those of the files before this one too. Raises UsageError for hosts that can't be."""
        targets: dict[str, dict[str, str]] = {}
        for name in self.inventory.hosts:
            there = self.inventory.get_host(name).get_vars()
            source, target = there.get("claim_source"), there.get("claim_target")
            if name in found:
                ours = found[name].variables
                if source != ours["claim_source"] or (target and ours.get("claim_target", target) != target):
                    raise UsageError(
                        f"{name} is in another inventory already, with another cluster or counterpart: leave it out of "
                        "one of them, or run them one by one."
                    )
            if source and target and host_of(source["namespace"], source["pvc"]) == name:
                targets[name] = target
        for name, host in found.items():
            if target := host.variables.get("claim_target"):
                targets[name] = target
        if problems := collisions({**targets, **_places({name: targets[name] for name in rivals(targets)})}):
            raise UsageError(" ".join(problems))
        return targets

    def _looked_in(self, cluster: Cluster, rules: ClaimMap) -> list[str]:
        """The namespaces whose claims are known, those of rules that don't exist among them; empty for all.

        Other namespaces of rules may be those of other inventories. Who may not look at one isn't told.
        """
        looked_in = list(self.get_option("namespaces") or [])
        for namespace in sorted(rules.namespaces() - {*looked_in}) if looked_in else []:
            try:
                cluster.check_namespace(namespace)
            except NotFound:
                looked_in.append(namespace)
        return looked_in

    def _map(self, path: str) -> ClaimMap | None:
        given = self.get_option("map")
        if not given:
            return None
        file = Path(path).parent / Path(given).expanduser()
        if not file.is_file():
            raise UsageError(f"The map {file} doesn't exist: check map.")
        return ClaimMap(self.loader.load_from_file(str(file), trusted_as_template=False), file.name)

    def _ask(self, cluster: Cluster, namespace: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        labels = {"labelSelector": self.get_option("label_selector")}
        try:
            claims = cluster.list_objects(Request("list", "persistentvolumeclaims", namespace, query=labels))
            if not claims and namespace:
                cluster.check_namespace(namespace)
            return claims, cluster.list_pods(namespace)
        except Forbidden as exc:
            if namespace:
                raise
            raise Forbidden(f"{exc} Or name the namespaces to look in: namespaces.") from None

    def _found(
        self, claim: dict[str, Any], pods: list[dict[str, Any]], rules: ClaimMap | None
    ) -> _Found | None:
        """The host that a claim is; None if a rule skips it."""
        source = source_of(claim)
        group, target = "claims", None
        if rules:
            try:
                target = rules.counterpart(source)
            except KeyError:
                group = "unmapped"
            else:
                if target is None:
                    return None
        users = users_of(pods, source.claim)
        variables = self._variables(claim, users)
        prefixed = (
            ("namespace", source.namespace),
            ("storage_class", source.storage_class),
            ("node", node_of(users)),
        )
        return _Found(
            name=host_of(source.namespace, source.claim),
            variables={**variables, **_counterpart(target, variables["claim_source"])},
            groups=[group, *(f"{prefix}_{value}" for prefix, value in prefixed if value)],
        )

    def _add(self, host: _Found) -> None:
        self.inventory.add_host(host.name)
        for key, value in host.variables.items():
            self.inventory.set_variable(host.name, key, value)
        for group in host.groups:
            self._group(host.name, group)
        self._construct(host.name)

    def _variables(self, claim: dict[str, Any], users: list[dict[str, Any]]) -> dict[str, Any]:
        source = source_of(claim)
        options = {key: self.get_option(key) for key in _SHARED}
        given = [value if isinstance(value, str) else None for value in options.values()]
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "claim_source": {"namespace": source.namespace, "pvc": source.claim, **endpoint(given, _SHARED)},
            "claim_phase": phase_of(claim),
            "claim_storage_class": source.storage_class,
            "claim_access_modes": list(source.access_modes),
            "claim_volume_mode": claim["spec"].get("volumeMode") or "Filesystem",
            "claim_volume": claim["spec"].get("volumeName") or "",
            "claim_bytes": source.size,
            "claim_labels": dict(claim["metadata"].get("labels") or {}),
            "claim_node": node_of(users),
            "claim_pods": [pod["metadata"]["name"] for pod in users],
        }

    def _group(self, name: str, group: str) -> None:
        self.inventory.add_child(self.inventory.add_group(self._sanitize_group_name(group)), name)

    def _construct(self, name: str) -> None:
        variables = self.inventory.get_host(name).get_vars()
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)


def _make_absolute() -> None:
    """Have the modules find the kubeconfigs of the environment, which they inherit. They run in another directory."""
    for variable in _VARIABLES:
        if given := os.environ.get(variable):
            paths = [os.path.abspath(os.path.expanduser(path)) for path in given.split(os.pathsep) if path]
            os.environ[variable] = os.pathsep.join(paths)


def _name(claim: dict[str, Any]) -> str:
    return f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"


def _places(targets: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Counterparts by what their clusters say: one cluster may have several kubeconfigs, contexts and addresses.

    As they are given, where that can't be asked. Each namespace of a cluster is asked for once.
    """
    asked: dict[tuple[tuple[str, str], ...], str] = {}
    places: dict[str, Mapping[str, str]] = {}
    for name, target in targets.items():
        where = tuple(sorted((key, value) for key, value in target.items() if key != "pvc"))
        if where not in asked:
            asked[where] = _identity(target)
        found = {"namespace": target["namespace"], "pvc": target["pvc"], "cluster": asked[where]}
        places[name] = found if asked[where] else target
    return places


def _identity(target: Mapping[str, str]) -> str:
    """What tells the cluster of a counterpart from others, by its namespace; empty where that can't be asked."""
    try:
        cluster = connect({}, target)
        found = cluster.get_namespace(target["namespace"])
    except NotFound:
        return str(cluster.server)
    except KubeferryError:
        return ""
    return str((found.get("metadata") or {}).get("uid") or cluster.server)


def _is_skipped(claim: dict[str, Any], rules: ClaimMap | None) -> bool:
    """Whether a rule of the map leaves a claim out."""
    try:
        return rules is not None and rules.counterpart(source_of(claim)) is None
    except KeyError:
        return False


def _counterpart(target: Counterpart | None, source: Mapping[str, str]) -> dict[str, Any]:
    """The variables for a counterpart. Its cluster is that of the source in so far as the map names no other."""
    if target is None:
        return {}
    connection = endpoint([*target.connection.values()], [*target.connection])
    if "kubeconfig" not in connection:
        connection = {**{key: source[key] for key in _SHARED if key in source}, **connection}
    return {
        "claim_target": {"namespace": target.namespace, "pvc": target.claim, **connection},
        "claim_wanted": {
            "storage_class": target.storage_class,
            "access_modes": list(target.access_modes),
            "size": target.size,
            "create": target.create,
        },
    }
