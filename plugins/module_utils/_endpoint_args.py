# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""An endpoint's options, described once: the argument specification and its documentation are made of this.

:func:`endpoint_spec` goes into a module's argument specification, :func:`endpoint_documentation` into the
documentation fragment of the same name, so the two can't tell different things.
"""

from __future__ import annotations

import copy
from typing import Any

from ._auth_args import AUTH_ARG_SPEC, auth_text, documented, proxy_headers_text

DEFAULT_IMAGE = "busybox:1.37"
DEFAULT_LIFETIME = 4 * 3600
DEFAULT_WAIT = 120

_PLACE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "path": (
        {"type": "str"},
        [
            (
                "The directory. In a pod it is absolute; on this machine it may be relative to the playbook's "
                "directory, and V(~) is understood."
            ),
            "With O({0}.pvc) it is relative to the root of the claim, and V(.) when it is left out.",
        ],
    ),
    "namespace": (
        {"type": "str"},
        ["The namespace of the pod or claim. Without it, the endpoint is a directory on this machine."],
    ),
    "pod": ({"type": "str"}, ["The pod that has the volume mounted. It must be running."]),
    "pvc": (
        {"type": "str"},
        [
            (
                "The claim, in place of O({0}.pod): a helper pod that mounts it is made for the duration of the task. "
                "M(kubeferry.pvc.pvc_mount) makes one for several tasks."
            ),
        ],
    ),
    "container": (
        {"type": "str"},
        [
            (
                "The container of the pod. Needed only where it has several and doesn't name its default one, with the "
                "annotation C(kubectl.kubernetes.io/default-container), or where the pod may not be read."
            ),
        ],
    ),
    "manifest": (
        {"type": "path"},
        [
            (
                "A manifest file on this machine that tells what the directory holds, or is to hold; see "
                "M(kubeferry.pvc.pvc_manifest)."
            ),
        ],
    ),
    "manifest_digest": (
        {"type": "str"},
        [
            (
                "The digest of that file, as M(kubeferry.pvc.pvc_copy) returned it when the files were staged. Nothing "
                "is taken from a directory in which another copy has staged its files since. For a source only."
            ),
        ],
    ),
    "image": (
        {"type": "str", "default": DEFAULT_IMAGE},
        ["The image of a helper pod made for O({0}.pvc). It needs V(sh) and BusyBox's or GNU's tools."],
    ),
    "pod_security": (
        {"type": "str", "choices": ["baseline", "restricted"], "default": "baseline"},
        [
            (
                "The level of Pod Security that a helper pod made for O({0}.pvc) keeps to. With V(baseline) it runs "
                "as root, which it takes to read any file and to set owners."
            ),
        ],
    ),
    "run_as_user": (
        {"type": "int"},
        [
            (
                "The user id of a helper pod made for O({0}.pvc), where V(restricted) asks for one and OpenShift "
                "doesn't choose it."
            ),
        ],
    ),
    "run_as_group": ({"type": "int"}, ["The group id of a helper pod made for O({0}.pvc)."]),
    "supplemental_groups": (
        {"type": "list", "elements": "int"},
        ["Further groups of a helper pod made for O({0}.pvc), as in M(kubeferry.pvc.pvc_mount)."],
    ),
    "service_account": ({"type": "str"}, ["The service account of a helper pod made for O({0}.pvc)."]),
    "image_pull_secrets": (
        {"type": "list", "elements": "str", "no_log": False},
        ["The names of secrets for pulling the image of a helper pod made for O({0}.pvc)."],
    ),
    "node_selector": (
        {"type": "dict"},
        ["The labels of the nodes that may run a helper pod made for O({0}.pvc)."],
    ),
    "tolerations": (
        {"type": "list", "elements": "dict"},
        ["The taints that a helper pod made for O({0}.pvc) tolerates, as in a pod's C(spec.tolerations)."],
    ),
    "resources": (
        {"type": "dict"},
        ["Requests and limits of a helper pod made for O({0}.pvc), as in a container's C(resources)."],
    ),
    "priority_class": ({"type": "str"}, ["The priority class of a helper pod made for O({0}.pvc)."]),
    "lifetime": (
        {"type": "int", "default": DEFAULT_LIFETIME},
        [
            "The seconds after which a helper pod made for O({0}.pvc) ends by itself, whatever becomes of the task."
        ],
    ),
    "wait_timeout": (
        {"type": "int", "default": DEFAULT_WAIT},
        ["The seconds to wait for a helper pod made for O({0}.pvc) to be ready."],
    ),
}


def endpoint_spec(*, required: bool = True) -> dict[str, Any]:
    """The argument specification of one endpoint: a place, and how to reach its cluster."""
    options = {name: dict(spec) for name, (spec, _text) in _PLACE.items()}
    options.update(copy.deepcopy(AUTH_ARG_SPEC))
    return {
        "type": "dict",
        "required": required,
        "options": options,
        "mutually_exclusive": [("pod", "pvc")],
        "required_by": {
            "pod": "namespace",
            "pvc": "namespace",
            "container": "namespace",
            "manifest_digest": "manifest",
        },
    }


def claim_spec() -> dict[str, Any]:
    """The argument specification of a claim, and how to reach its cluster."""
    options = {name: dict(_PLACE[name][0]) for name in ("namespace", "pvc")}
    options["namespace"]["required"] = True
    options.update(copy.deepcopy(AUTH_ARG_SPEC))
    return {"type": "dict", "required": True, "options": options}


def claim_documentation() -> dict[str, Any]:
    """The `options` of a documentation fragment for the option `claim`."""
    suboptions: dict[str, Any] = {
        "namespace": {"description": ["The namespace of the claim."], "type": "str", "required": True},
        "pvc": {"description": ["The name of the claim."], "type": "str"},
    }
    for key, spec in AUTH_ARG_SPEC.items():
        said = [auth_text(key, "claim"), f"As the task's O({key}), for this claim only."]
        suboptions[key] = documented(spec, said, proxy_headers_text())
    return {
        "claim": {
            "description": [
                "The claim. The keys that say which cluster and who override the task's, as in an endpoint.",
            ],
            "type": "dict",
            "required": True,
            "suboptions": suboptions,
        }
    }


def endpoint_documentation(name: str, text: str, *, required: bool = True) -> dict[str, Any]:
    """The `options` of a documentation fragment for an endpoint called `name`, described by `text`."""
    suboptions = {
        key: documented(spec, [line.replace("{0}", name) for line in said])
        for key, (spec, said) in _PLACE.items()
    }
    for key, spec in AUTH_ARG_SPEC.items():
        said = [auth_text(key, name), f"As the task's O({key}), for this endpoint only."]
        suboptions[key] = documented(spec, said, proxy_headers_text())
    return {
        name: {
            "description": [
                text,
                f"A directory in a pod if O({name}.namespace) is given, else on the machine that runs the task.",
                (
                    "The keys that say which cluster and who override the task's. An endpoint "
                    f"with O({name}.kubeconfig) or O({name}.host) inherits no credential from the task or from "
                    f"C(K8S_AUTH_*) variables, and one with O({name}.context) just the kubeconfig: no token reaches "
                    "a cluster that it isn't for."
                ),
            ],
            "type": "dict",
            "required": required,
            "suboptions": suboptions,
        }
    }
